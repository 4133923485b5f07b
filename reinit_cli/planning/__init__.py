"""Decide what happens to every key, and where the output goes."""
