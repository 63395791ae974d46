"""Grids of victims: what to train, where it runs, one table of what came out."""
