"""Turns posed RGB-D scenes into training data: sources -> seeing -> building -> tasks -> checking, formats."""
