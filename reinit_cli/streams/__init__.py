"""Turn a seed and a key into a random stream."""
