"""Means with their errors: over images, given the images, between seeds."""
