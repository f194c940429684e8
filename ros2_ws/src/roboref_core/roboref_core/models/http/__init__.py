"""Pointing models behind HTTP servers."""
