"""Turn raw records into a directory in the benchmarks' layout."""
