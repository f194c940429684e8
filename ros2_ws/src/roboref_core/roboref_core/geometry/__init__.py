"""Cameras and rigid poses."""
