"""Read and write folders as Hugging Face's libraries have them."""
