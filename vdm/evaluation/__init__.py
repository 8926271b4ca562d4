"""Trained parameters + images -> numbers with their errors."""
