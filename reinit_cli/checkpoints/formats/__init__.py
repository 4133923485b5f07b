"""Checkpoint formats: each module locates tensors in files and lays out new ones.

They read hostile bytes: nothing in them is called, imported or executed.
"""
