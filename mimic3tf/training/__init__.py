"""From a poisoned pipeline and a victim to a run directory."""
