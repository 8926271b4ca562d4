"""Training: optimizer, state, step, loop, checkpoints and metric writers."""
