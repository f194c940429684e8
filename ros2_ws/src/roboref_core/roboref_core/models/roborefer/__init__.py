"""The RoboRefer / NVILA architecture, native: reads and writes the published checkpoint layout.

``load`` gives a ``VisionLanguageModel``; ``checkpoint`` and ``training`` are what fine-tuning builds on.
"""

from roboref_core.models.roborefer.backend import RoboReferBackend

load = RoboReferBackend.load

__all__ = ["RoboReferBackend", "load"]
