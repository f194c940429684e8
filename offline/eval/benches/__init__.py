"""Public benchmarks with their published scorers."""
