"""Recorder and player of rosbag2 files."""
