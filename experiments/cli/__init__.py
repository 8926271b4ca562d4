"""The command line: flags, signals, output and several processes."""
