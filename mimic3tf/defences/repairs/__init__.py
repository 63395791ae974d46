"""Repairs, which try to remove the backdoor of a victim."""
