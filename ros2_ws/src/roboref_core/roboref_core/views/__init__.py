"""Posed RGB-D views: buffer, visibility, location of pixels in 3D."""
