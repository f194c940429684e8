"""Procedural furnished rooms in ScanNet's formats, rendered with exact truth."""
