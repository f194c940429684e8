"""The question: mirrors roboref_msgs/ReferQuery and MarkedRegion one to one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class RegionType(IntEnum):
    POINT = 0
    BOX = 1
    POSITION = 2


@dataclass(frozen=True)
class MarkedRegion:
    """Something that somebody marked in one view.

    Attributes:
        type: which of the fields below holds the mark.
        label: how the text calls it ("A"); empty: a hint only.
        view_id: view that the pixels refer to; empty: the view that is queried.
        point: (u, v) in the full-resolution colour image [pixel].
        box: (u_min, v_min, u_max, v_max), both ends included [pixel].
        position: (x, y, z) in ``frame_id`` [m].
        frame_id: frame of ``position``; empty: the fixed frame.
    """

    type: RegionType
    label: str = ""
    view_id: str = ""
    point: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    position: tuple[float, float, float] | None = None
    frame_id: str = ""


@dataclass(frozen=True)
class Query:
    """What to point at, in which view, and how hard to try.

    Attributes:
        text: referring expression ("the mug behind the laptop"); may be empty only with a mark.
        view_id: view to search; empty: the newest complete one.
        regions: marks that the text refers to.
        target_frame: frame of the metric answer; empty: the node's default.
        max_targets: most targets wanted; 0 and 1 mean the single best.
        max_view_age: oldest acceptable newest view [s]; None: the default. Not applied with ``view_id``.
        timeout: longest time to wait for the answer [s]; None: the default.
        search_memory: also look for the last known place in older views if it is not visible now.
    """

    text: str
    view_id: str = ""
    regions: tuple[MarkedRegion, ...] = ()
    target_frame: str = ""
    max_targets: int = 1
    max_view_age: float | None = None
    timeout: float | None = None
    search_memory: bool = False
