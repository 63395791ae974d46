"""Ways to rid a victim of a backdoor."""
