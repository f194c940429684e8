"""Scores, compares and reports what the node answered."""
