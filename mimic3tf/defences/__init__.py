"""What a defender can do against a backdoor, and how well it works."""
