"""Servers on the loopback that stand for those of the world."""
