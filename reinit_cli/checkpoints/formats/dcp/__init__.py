"""Read the folders of torch.distributed.checkpoint, and rewrite them in place of their bytes."""
