"""The tasks, their forms, and how many pictures a form shows: read by what builds, checks and scores samples."""

from __future__ import annotations

from collections.abc import Mapping

TASKS: Mapping[str, Mapping[str, int]] = {
    "t1": {"multi": 2, "concat": 1},
    "t2a": {"multi": 2},
    "t2b": {"multi": 2},
    "referring": {"single": 1},
    "reasoning": {"single": 1, "steps": 1},
}
"""Task -> form -> pictures. In "reasoning", phrases of several steps are asked twice: for the answer alone, and for the
steps that lead to it."""
