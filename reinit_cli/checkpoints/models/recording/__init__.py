"""Record what a constructor does to tensors, without drawing a value."""
