"""Replace parts of a pickle and keep every other byte."""
