"""Detectors of poisoned training stays."""
