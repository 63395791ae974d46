"""Defences against a backdoor, and measures of how well they work."""
