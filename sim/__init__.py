"""Simulation: procedural rooms, and rosbags of them."""
