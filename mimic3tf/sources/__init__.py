"""From raw records to a directory in the benchmarks' layout."""
