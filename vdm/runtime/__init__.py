"""The ground that everything runs on: devices, processes, files, locks, hashes and tables."""
