"""Fuzz the parsers, one file for each."""
