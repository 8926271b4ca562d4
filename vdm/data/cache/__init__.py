"""The prepared format: arrays on disk that are found again by what was asked for."""
