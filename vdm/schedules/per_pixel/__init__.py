"""Schedules with a gamma for every dimension, and for every image."""
