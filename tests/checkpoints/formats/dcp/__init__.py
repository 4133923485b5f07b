"""Tests of folders of torch.distributed.checkpoint."""
