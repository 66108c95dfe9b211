"""The training engine: one loop, its state, checkpoints and run directory."""
