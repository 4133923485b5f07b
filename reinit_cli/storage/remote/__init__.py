"""Read and write files that have a URL, through the file systems of fsspec."""
