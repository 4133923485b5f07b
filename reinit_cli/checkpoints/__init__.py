"""Read checkpoints, and say what new files look like."""
