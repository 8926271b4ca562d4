"""What a launcher does with one run: train, sample, measure."""
