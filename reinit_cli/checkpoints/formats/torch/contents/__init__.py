"""Find the state dict in a pickle, and outline everything else."""
