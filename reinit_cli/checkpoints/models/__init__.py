"""Know models by name: their tensors, weights, and constructors."""
