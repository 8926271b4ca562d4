"""Readers of files from unknown sources, which trust nothing in them."""
