"""Read pickles as inert records, and tell what a record stands for."""
