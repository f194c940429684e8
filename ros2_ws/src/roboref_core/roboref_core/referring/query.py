"""The question: mirrors roboref_msgs/ReferQuery and MarkedRegion one to one."""

from __future__ import annotations

from dataclasses import dataclass

from roboref_core.errors import ErrorCode, ReferError

MAX_REGIONS = 64
"""Most marks of one query: every one is located, and drawn for the model."""
MAX_TEXT = 10_000
"""Most characters of a text in a query."""


@dataclass(frozen=True)
class MarkedPoint:
    """A pixel that somebody marked in one view.

    Attributes:
        point: (u, v) in the full-resolution colour image [pixel].
        view_id: view that the pixel refers to; empty: the view that is queried.
        label: how the text calls it ("A"); empty: a hint only.
    """

    point: tuple[float, float]
    view_id: str = ""
    label: str = ""


@dataclass(frozen=True)
class MarkedBox:
    """A box that somebody marked in one view.

    Attributes:
        box: (u_min, v_min, u_max, v_max), both ends included [pixel].
        view_id, label: as of MarkedPoint.
    """

    box: tuple[float, float, float, float]
    view_id: str = ""
    label: str = ""


@dataclass(frozen=True)
class MarkedPosition:
    """A place in space that somebody marked.

    Attributes:
        position: (x, y, z) in ``frame_id`` [m].
        frame_id: frame of ``position``; empty: the fixed frame.
        label: as of MarkedPoint.
    """

    position: tuple[float, float, float]
    frame_id: str = ""
    label: str = ""


MarkedRegion = MarkedPoint | MarkedBox | MarkedPosition


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


def check_size(query: Query) -> None:
    """Raise ReferError(INVALID_QUERY) beyond the limits: MAX_REGIONS marks, MAX_TEXT characters in any text."""
    if len(query.regions) > MAX_REGIONS:
        raise ReferError(
            ErrorCode.INVALID_QUERY, f"a query may have {MAX_REGIONS} marked regions, found {len(query.regions)}"
        )
    texts = [query.text, query.view_id, query.target_frame]
    for region in query.regions:
        texts += [region.label, region.frame_id if isinstance(region, MarkedPosition) else region.view_id]
    longest = max(map(len, texts))
    if longest > MAX_TEXT:
        raise ReferError(ErrorCode.INVALID_QUERY, f"a text of a query may have {MAX_TEXT} characters, found {longest}")
