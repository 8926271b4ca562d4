"""Strangers' files, read without trust: archives, pickles and images."""
