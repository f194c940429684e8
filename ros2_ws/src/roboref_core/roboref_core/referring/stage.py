"""Where a question is on its way to an answer."""

from __future__ import annotations

from enum import IntEnum


class Stage(IntEnum):
    """Mirrors the states of the feedback of roboref_msgs/ReferPoint."""

    QUEUED = 0
    WAITING_FOR_VIEW = 1
    INFERRING = 2
    LOCATING = 3
