"""Locate tensors in what torch.save wrote."""
