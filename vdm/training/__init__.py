"""Training: optimizer, state, step, loop and metric writers."""
