"""Draw torch-1: what torch's own generators give, one for each key."""
