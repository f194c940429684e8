"""Puts samples to a model or to a baseline and keeps what it answers."""
