"""Sweeps: train and attack grids of victims, on this machine or on Ray, and write one table of results."""
