"""Lay out the files around a pickle: archives, and what came before them."""
