"""Time, memory and arithmetic of training and evaluation."""
