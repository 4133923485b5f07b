"""Read models of the Hugging Face Hub: headers by ranges, weights through the Hub's own cache."""
