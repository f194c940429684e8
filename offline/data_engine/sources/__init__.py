"""Posed RGB-D sequences from any layout, behind one protocol."""

from roboref_core.scene import BadFrame, EncodedImage, Instances, Mesh, Scene

from offline.data_engine.sources.discover import open_scene

__all__ = ["BadFrame", "EncodedImage", "Instances", "Mesh", "Scene", "open_scene"]
