"""Write a benchmark directory in the formats that other pipelines read."""
