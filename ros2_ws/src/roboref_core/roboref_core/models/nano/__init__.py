"""roboref-nano: the checkpoint that comes with RoboRef, in RoboRefer's layout. Its card: README.md."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "model"
