"""The robot's memory of views: keyframes bounded in count and bytes, kept for what they cover. Thread-safe."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from roboref_core.geometry.pose import inverse, rotation_angle
from roboref_core.views.coverage import CoverageIndex
from roboref_core.views.odometer import Odometer
from roboref_core.views.view import View

SECOND = 1_000_000_000


@dataclass(frozen=True)
class ViewBufferConfig:
    """What is kept.

    Attributes:
        max_views: most keyframes.
        max_bytes: most bytes of image data, the newest view included.
        min_translation, min_rotation: motion since the last keyframe that asks for a new one [m, rad].
        min_interval: never sooner than this after the last keyframe [s].
        max_interval: always after this, even without motion (things move too) [s].
        unposed_interval: without poses, which would tell of motion, after this [s]: what a handheld camera turns away
            from is reached over a chain of views that overlap.
        sharpness_window: views among which the sharpest becomes the keyframe; 1: the first.
        max_kept: most views besides keyframes that stay because an answer or an operator referred to them.
    """

    max_views: int = 100
    max_bytes: int = 512 * 1024 * 1024
    min_translation: float = 0.2
    min_rotation: float = np.deg2rad(15.0)
    min_interval: float = 0.2
    max_interval: float = 10.0
    unposed_interval: float = 1.0
    sharpness_window: int = 3
    max_kept: int = 16

    def __post_init__(self) -> None:
        for name in ("max_views", "max_bytes", "sharpness_window", "max_kept"):
            if getattr(self, name) < 1:
                raise ValueError(f"view buffer: {name} must be at least 1, found {getattr(self, name)}")


class ViewBuffer:
    """Keyframes, the views that were lately spoken of, and always the newest view.

    A view becomes a keyframe when the camera has moved or turned enough since the last one, or enough
    time has passed; of a few candidates in a row the sharpest is taken. When the buffer is full the
    view goes whose scene the other views cover best. Pinned views stay until they are released.
    """

    def __init__(self, config: ViewBufferConfig | None = None):
        self.config = config or ViewBufferConfig()
        self._lock = threading.RLock()
        self._session = uuid.uuid4().hex[:8]
        self._count = 0
        self._keyframes: dict[str, View] = {}
        self._kept: dict[str, View] = {}
        self._pinned: set[str] = set()
        self._coverage = CoverageIndex()
        self._newest: View | None = None
        self._last_keyframe: View | None = None
        self._candidates: list[View] = []
        self._odometer = Odometer()

    def next_id(self) -> str:
        """A view id that no other view has, in this run or another: ``<8 hex of the run>-<counter>``."""
        with self._lock:
            self._count += 1
            return f"{self._session}-{self._count:06d}"

    def add(self, view: View) -> None:
        """Take a view as the newest, and perhaps as a keyframe.

        Decodes the images of keyframe candidates only; call it off the executor thread.
        """
        with self._lock:
            if self._newest is None or view.stamp_ns >= self._newest.stamp_ns:
                self._newest = view
            self._candidates = self._candidates + [view] if self._wants(view) else []
            # With room for no other candidate, or at the first view of all, there is nothing to wait for.
            if self._candidates and (
                self._last_keyframe is None or len(self._candidates) >= self.config.sharpness_window
            ):
                best = max(self._candidates, key=sharpness) if len(self._candidates) > 1 else self._candidates[0]
                self._candidates = []
                self._make_keyframe(best)
                self._odometer.pass_by(best)
                self._last_keyframe = best
            self._evict()

    def _wants(self, view: View) -> bool:
        last = self._last_keyframe
        if last is None:
            return True
        seconds = (view.stamp_ns - last.stamp_ns) / SECOND
        if seconds < self.config.min_interval:
            return False
        if seconds >= self.config.max_interval or (view.T_world_camera is None) != (last.T_world_camera is None):
            return True
        if view.T_world_camera is None or last.T_world_camera is None:
            return seconds >= self.config.unposed_interval
        if view.world_frame != last.world_frame:
            return True
        motion = inverse(last.T_world_camera) @ view.T_world_camera
        return bool(
            np.linalg.norm(motion[:3, 3]) >= self.config.min_translation
            or rotation_angle(motion) >= self.config.min_rotation
        )

    def keep(self, view: View) -> None:
        """Let ``view`` stay for a while: an answer refers to it, so a later question may. Costs next to nothing.

        The last ``max_kept`` of such views stay, besides the keyframes, whose choice they do not touch.
        """
        with self._lock:
            if view.view_id not in self._keyframes:
                self._kept.pop(view.view_id, None)
                self._kept[view.view_id] = view
                while len(self._kept) > self.config.max_kept:
                    del self._kept[next(iter(self._kept))]

    def _make_keyframe(self, view: View) -> None:
        if view.view_id not in self._keyframes:
            self._kept.pop(view.view_id, None)
            self._keyframes[view.view_id] = view
            self._coverage.add(view)

    def pin(self, view_id: str) -> View:
        """Keep a view until it is released. ValueError if it is unknown or if pinned views would fill the buffer."""
        with self._lock:
            view = self.get(view_id)
            if view is None:
                raise ValueError(f"unknown view {view_id!r}: the buffer holds {len(self._keyframes)} views")
            if view_id not in self._pinned and len(self._pinned) >= self.config.max_views - 1:
                raise ValueError(f"{len(self._pinned)} of {self.config.max_views} views are pinned: release some first")
            pinned = [self._keyframes[other] for other in self._pinned - {view_id}]
            needed = sum(other.full_nbytes for other in (*pinned, view))
            if needed > self.config.max_bytes:
                raise ValueError(
                    f"{len(pinned)} views are pinned; with this one their images take {needed} of "
                    f"{self.config.max_bytes} bytes: release some first"
                )
            self._pinned.add(view_id)
            self._make_keyframe(view)
            self._evict()
            return view

    def release(self, view_ids: Sequence[str] = ()) -> int:
        """Unpin the given views, or all of them. Returns how many were pinned."""
        with self._lock:
            released = self._pinned & set(view_ids) if view_ids else set(self._pinned)
            self._pinned -= released
            self._evict()
            return len(released)

    def is_pinned(self, view_id: str) -> bool:
        with self._lock:
            return view_id in self._pinned

    def clear(self) -> int:
        """Forget all views but pinned ones: the clock jumped. Returns how many stay. Ids stay unique."""
        with self._lock:
            pinned = [self._keyframes[view_id] for view_id in self._keyframes if view_id in self._pinned]
            self._keyframes, self._kept, self._candidates = {}, {}, []
            self._coverage = CoverageIndex()
            self._newest = self._last_keyframe = None
            self._odometer.forget()
            for view in pinned:
                self._make_keyframe(view)
            return len(pinned)

    def newest(self) -> View | None:
        with self._lock:
            return self._newest

    def get(self, view_id: str) -> View | None:
        with self._lock:
            if self._newest is not None and self._newest.view_id == view_id:
                return self._newest
            return self._keyframes.get(view_id) or self._kept.get(view_id)

    def views(self) -> list[View]:
        """Every view that is held, newest first."""
        with self._lock:
            views = self._keyframes | self._kept
            if self._newest is not None:
                views[self._newest.view_id] = self._newest
            return sorted(views.values(), key=lambda view: (-view.stamp_ns, view.view_id))

    def keyframes(self) -> list[View]:
        """Newest first."""
        with self._lock:
            return sorted(self._keyframes.values(), key=lambda view: (-view.stamp_ns, view.view_id))

    def views_overlapping(self, view: View) -> list[tuple[View, float]]:
        """Keyframes that see part of what ``view`` sees, with the share of it (0, 1], largest share first."""
        with self._lock:
            shares = self._coverage.shares(view)
            found = [(self._keyframes[view_id], share) for view_id, share in shares.items() if share > 0]
        return sorted(found, key=lambda item: (-item[1], -item[0].stamp_ns))

    def views_elsewhere(self, view: View, count: int) -> list[View]:
        """At most ``count`` keyframes, newest first, that show other space than ``view`` and one another."""
        with self._lock:
            return [self._keyframes[view_id] for view_id in self._coverage.elsewhere(view, count)]

    def way(self, view: View) -> float:
        """Way of the camera, turning included, from the first view of its world to ``view`` [m]."""
        with self._lock:
            return self._odometer.way(view)

    @property
    def nbytes(self) -> int:
        """Bytes of image data held now."""
        with self._lock:
            return sum(view.nbytes for view in self.views())

    def __len__(self) -> int:
        return len(self.views())

    def _evict(self) -> None:
        while len(self._keyframes) > self.config.max_views or self.nbytes > self.config.max_bytes:
            if self._kept and len(self._keyframes) <= self.config.max_views:
                del self._kept[next(iter(self._kept))]
                continue
            free = [v for v in self._keyframes.values() if v.view_id not in self._pinned and v is not self._newest]
            if not free:
                return
            # Ties (nothing overlaps, or no poses) go by age.
            victim = max(free, key=lambda v: (self._coverage.redundancy(v.view_id), -v.stamp_ns))
            del self._keyframes[victim.view_id]
            self._coverage.remove(victim.view_id)


def sharpness(view: View) -> float:
    """Variance of the Laplacian of the green channel at half resolution: larger is sharper (same scene only)."""
    try:
        grey = view.color[::2, ::2, 1].astype(np.float32)
    except ValueError:
        return -1.0
    laplacian = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
    return float(laplacian.var())
