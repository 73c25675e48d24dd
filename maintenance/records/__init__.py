"""What the project ships: how it is trained, measured and written to data/checkpoints and the README."""
