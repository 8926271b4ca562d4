"""Breakdowns of one bound (per dimension, image, noise level) and paired differences between runs."""
