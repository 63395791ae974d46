"""Find training stays that share one shift: sound stays, and sound stays plus one common pattern."""
