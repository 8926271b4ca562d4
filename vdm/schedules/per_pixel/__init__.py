"""Schedules with a gamma for every dimension of an image, and perhaps for every image."""
