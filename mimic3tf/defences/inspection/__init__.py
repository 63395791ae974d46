"""Checks of a trained model and of its inputs."""
