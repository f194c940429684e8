"""Plays a bag to a node, step by step or live, and asks it questions."""
