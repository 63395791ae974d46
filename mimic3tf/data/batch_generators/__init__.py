"""Batch generators of mimic3-benchmarks: a module for each task, with the benchmarks' classes."""
