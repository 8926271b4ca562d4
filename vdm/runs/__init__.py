"""Runs: a configuration and its parts, and what a work folder holds of them."""
