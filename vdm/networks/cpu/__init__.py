"""Convolutions for CPUs: Winograd's tiles and their gradients."""
