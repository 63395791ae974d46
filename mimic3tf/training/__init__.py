"""Train a victim on a poisoned pipeline, and write a run directory."""
