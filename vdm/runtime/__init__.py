"""What everything runs on: devices, processes, files and hashes."""
