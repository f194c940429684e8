"""Bags through the node: playing, truth, scoring, and the closed loop over a recording."""
