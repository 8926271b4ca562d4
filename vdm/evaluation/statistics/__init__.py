"""Means with their errors: over images, over times and noise given the images, between seeds."""
