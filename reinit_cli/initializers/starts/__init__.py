"""Starts: what torch's own layers fill their tensors with when they are made or reset."""
