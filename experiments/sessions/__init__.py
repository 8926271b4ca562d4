"""Sessions of launchers with one run: training, sampling, bounds, throughput."""
