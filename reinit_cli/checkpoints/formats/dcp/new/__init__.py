"""Lay out new folders of torch.distributed.checkpoint."""
