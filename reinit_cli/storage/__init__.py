"""Read and write bytes; the only room that asks whether a path exists."""
