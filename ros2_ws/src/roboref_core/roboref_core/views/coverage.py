"""Which views see the same parts of the world: a few surface points of each view, counted in all the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roboref_core.geometry.camera import Camera, map_pixels
from roboref_core.geometry.pose import inverse, transform
from roboref_core.views.view import View, valid_depth

_COLUMNS, _ROWS = 12, 9
_ASSUMED_DEPTH = 2.0
"""Where a sample has no depth its point is put this far away [m]: the field of view still counts."""
_OCCLUSION_MARGIN = 0.25
"""A point this much behind a coarse depth sample counts as hidden [m]; coarse, since samples are far apart."""


@dataclass
class _Entry:
    view: View
    points: np.ndarray  # (P, 3) world
    depths: np.ndarray  # (ROWS, COLUMNS) along the optical axis
    seen_by: np.ndarray  # (P,) how many other views see each point


class CoverageIndex:
    """Keeps, for each posed view, by how many others each of its sample points is seen."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._unposed: set[str] = set()

    def add(self, view: View) -> None:
        if view.T_world_camera is None:
            self._unposed.add(view.view_id)
            return
        entry = _sample(view)
        self._count(entry, 1)
        for entries in self._by_camera(view.world_frame):
            entry.seen_by += _sees(entries, entry.points).sum(axis=0)
        self._entries[view.view_id] = entry

    def remove(self, view_id: str) -> None:
        self._unposed.discard(view_id)
        gone = self._entries.pop(view_id, None)
        if gone is not None:
            self._count(gone, -1)

    def _count(self, entry: _Entry, sign: int) -> None:
        """Add or take away what a view sees of all the others, in one go: a call per view would dominate."""
        others = [other for other in self._entries.values() if other.view.world_frame == entry.view.world_frame]
        if others:
            seen = _sees([entry], np.concatenate([other.points for other in others]))[0]
            ends = np.cumsum([len(other.points) for other in others])[:-1]
            for other, part in zip(others, np.split(seen, ends), strict=True):
                other.seen_by += sign * part

    def _by_camera(self, world_frame: str) -> list[list[_Entry]]:
        """Entries of one world frame: positions in two of them cannot be compared."""
        groups: dict[Camera, list[_Entry]] = {}
        for entry in self._entries.values():
            if entry.view.world_frame != world_frame:
                continue
            groups.setdefault(entry.view.camera, []).append(entry)
        return list(groups.values())

    def redundancy(self, view_id: str) -> float:
        """Share of a view's points that some other view sees, in [0, 1]; 2 for a view without a pose.

        A view without a pose covers nothing that anybody could look up by place, so it goes first.
        """
        if view_id in self._unposed:
            return 2.0
        return float((self._entries[view_id].seen_by > 0).mean())

    def shares(self, view: View) -> dict[str, float]:
        """View id -> share of the sample points of ``view`` (itself left out) that it sees."""
        if view.T_world_camera is None:
            return {}
        points = _sample(view).points
        return {
            entry.view.view_id: float(seen.mean())
            for entries in self._by_camera(view.world_frame)
            for entry, seen in zip(entries, _sees(entries, points), strict=True)
            if entry.view.view_id != view.view_id
        }

    def elsewhere(self, view: View, count: int, least: float = 0.3) -> list[str]:
        """Ids of at most ``count`` views, newest first, that show other space than ``view`` and one another.

        Args:
            least: share of its sample points that each shows and neither ``view`` nor a chosen newer one does.
        """
        shown = [] if view.T_world_camera is None else [_sample(view)]
        chosen: list[str] = []
        for entry in sorted(self._entries.values(), key=lambda entry: (-entry.view.stamp_ns, entry.view.view_id)):
            if len(chosen) == count:
                break
            comparable = [other for other in shown if other.view.world_frame == entry.view.world_frame]
            seen = np.zeros(len(entry.points), dtype=bool)
            for other in comparable:
                seen |= _sees([other], entry.points)[0].astype(bool)
            if entry.view.view_id != view.view_id and len(seen) and 1.0 - seen.mean() >= least:
                chosen.append(entry.view.view_id)
                shown.append(entry)
        return chosen


def _sample(view: View) -> _Entry:
    camera = view.camera
    u = (np.arange(_COLUMNS) + 0.5) * camera.width / _COLUMNS - 0.5
    v = (np.arange(_ROWS) + 0.5) * camera.height / _ROWS - 0.5
    pixels = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    depths = np.full(len(pixels), _ASSUMED_DEPTH)
    try:
        image = view.depth
    except ValueError:
        # A broken depth image leaves the field of view; a question about the view reports it.
        image = None
    if image is not None:
        on_depth = np.rint(map_pixels(pixels, camera, view.depth_camera))
        inside = view.depth_camera.contains(on_depth)
        index = on_depth[inside].astype(np.int64)
        values = image[index[:, 1], index[:, 0]]
        depths[inside] = np.where(valid_depth(values), values, _ASSUMED_DEPTH)
    points = transform(posed(view), camera.unproject(pixels, depths))
    good = np.isfinite(points).all(axis=1)
    return _Entry(view, points[good], depths.reshape(_ROWS, _COLUMNS), np.zeros(int(good.sum()), dtype=np.int64))


def posed(view: View) -> np.ndarray:
    """The pose of a view that is known to have one."""
    assert view.T_world_camera is not None
    return view.T_world_camera


def _sees(entries: list[_Entry], points_world: np.ndarray) -> np.ndarray:
    """(E, N) int64, 1 where the view of an entry sees the point, by its frustum and coarse depth.

    The entries' views have one camera.
    """
    camera = entries[0].view.camera
    T = np.stack([inverse(posed(entry.view)) for entry in entries])
    points = (points_world @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]).reshape(-1, 3)
    pixels = camera.project(points)
    inside = np.flatnonzero(camera.contains(pixels))
    column = ((pixels[inside, 0] + 0.5) * _COLUMNS / camera.width).astype(np.int64)
    row = ((pixels[inside, 1] + 0.5) * _ROWS / camera.height).astype(np.int64)
    depths = np.stack([entry.depths for entry in entries])
    nearest = depths[inside // len(points_world), row.clip(0, _ROWS - 1), column.clip(0, _COLUMNS - 1)]
    seen = np.zeros(len(points), dtype=np.int64)
    seen[inside] = points[inside, 2] <= nearest * 1.1 + _OCCLUSION_MARGIN
    return seen.reshape(len(entries), len(points_world))
