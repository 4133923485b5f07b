"""Rewrite checkpoints from the command line."""
