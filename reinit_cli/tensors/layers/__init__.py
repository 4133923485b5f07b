"""Layers: what kind of layer each tensor of a state dict is of."""
