"""Evaluation: from trained parameters and images to bits/dim with their errors."""
