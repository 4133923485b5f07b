"""Keep the books: what made an output."""
