"""Training: setup, step, loop, state, checkpoints, reporting."""
