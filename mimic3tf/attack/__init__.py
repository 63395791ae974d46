"""What an attacker does: triggers, poisoned stays and records, and how often the attack succeeds."""
