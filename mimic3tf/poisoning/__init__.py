"""What an attacker does to stays: triggers, the choice of poisoned stays, and poisoned copies of records."""
