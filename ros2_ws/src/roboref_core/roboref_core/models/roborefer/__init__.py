"""The RoboRefer / NVILA architecture, native: reads and writes the published checkpoint layout."""
