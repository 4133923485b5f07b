"""Inject faults, fuzz parsers, kill runs and change their sources, and count what goes wrong.

`make campaign` runs all parts and prints one table; the tests run a seeded slice of each.
"""
