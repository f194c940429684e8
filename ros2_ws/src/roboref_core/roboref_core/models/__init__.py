"""Pointing models and the registry that makes them by name."""
