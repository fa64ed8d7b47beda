"""Training on a device: the loop, one step, its optimizers, compute modes and objectives."""
