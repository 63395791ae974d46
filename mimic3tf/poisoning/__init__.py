"""What an attacker does to stays: triggers, who carries them, and poisoned copies of records."""
