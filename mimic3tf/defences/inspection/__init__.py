"""Inspection of a trained model, and of its inputs at prediction time."""
