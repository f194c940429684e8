"""Samples whose scenes are at hand, as requests about posed RGB-D views."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import normalised_to_pixel
from roboref_core.models.pointing_model import Mark, Place, PointingRequest, PointMark
from roboref_core.views.locate import LocateConfig, locate
from roboref_core.views.view import LazyImage, View

from offline.data_engine.sources import Scene, open_scene
from offline.eval.records.samples import Sample

_OPEN_SCENES = 4


class MarkedScenes:
    """Args:
    root: folder in which each scene lies under its scene_id.
    """

    def __init__(self, root: Path):
        self._root = root
        self._locate = LocateConfig()
        self._open = lru_cache(_OPEN_SCENES)(lambda scene_id: open_scene(self._root / scene_id))

    def request(self, sample: Sample) -> PointingRequest | None:
        """The sample's mark in its view, asked for in the queried one; None for a picture of another scene.

        Raises ReferError: INVALID_QUERY for samples without a mark, or whose frames the scenes lack.
        """
        entry = sample.extra
        if entry.get("ref_point") is None:
            raise ReferError(ErrorCode.INVALID_QUERY, f"sample {sample.id} states no ref_point to carry over")
        if (entry.get("visibility") or {}).get("query_scene", sample.scene) != sample.scene:
            return None
        try:
            scene: Scene = self._open(sample.scene)
            reference, query = (_view(scene, str(entry.get(name))) for name in ("ref_frame", "query_frame"))
            return PointingRequest("", query, (self._mark(reference, entry["ref_point"]),))
        except ValueError as error:
            raise ReferError(ErrorCode.INVALID_QUERY, f"sample {sample.id}: {error}") from error

    def _mark(self, view: View, xy: Sequence[float]) -> Mark:
        u, v = normalised_to_pixel(np.array(xy, dtype=np.float64), view.camera.width, view.camera.height)
        place = locate(view, (u, v), None, self._locate)
        if place.point is None or place.covariance is None or not place.in_world:
            return PointMark(view, (u, v))
        return PointMark(view, (u, v), Place(place.point, place.covariance, view.world_frame))


def _view(scene: Scene, frame: str) -> View:
    """One frame as a View. Raises ValueError for a frame that the scene does not have, or has no pose for."""
    where = np.flatnonzero(scene.frame_ids == int(frame)) if frame.isdigit() else np.zeros(0, np.int64)
    if len(where) != 1:
        raise ValueError(f"scene {scene.scene_id} has no frame {frame!r}")
    i = int(where[0])
    if not np.isfinite(scene.poses[i]).all():
        raise ValueError(f"scene {scene.scene_id}, frame {frame}: no pose")
    return View(
        view_id=f"{scene.scene_id}/{frame}",
        stamp_ns=0,
        color=LazyImage(lambda: scene.color(i)),
        camera=scene.color_camera,
        depth=scene.depth(i),
        depth_camera=scene.depth_camera,
        T_world_camera=scene.poses[i],
    )
