"""Grids of runs, one process each."""
