"""What stands in a robot's way in a room, seen from above, in the room's frame."""

from __future__ import annotations

from copy import copy
from functools import cached_property

import numpy as np
from roboref_core.geometry.pose import inverse

from sim.rooms.collision import upright_boxes
from sim.rooms.scene import SimObject, SimScene

CELL = 0.05  # of grids [m]


class Obstacles:
    """Boxes around the parts of the furniture, and the walls.

    Attributes:
        size: (3,) of the room, which reaches from the origin [m].

    Args:
        low, high: only what reaches into these heights is in the way [m].
    """

    def __init__(self, scene: SimScene, low: float = 0.03, high: float = 1.9):
        self.size = scene.room[1]
        self._T_room_world = inverse(scene.T_world_room)
        self._low, self._high = low, high
        self._boxes = self._boxes_of([thing for thing in scene.objects if thing.kind])

    def with_thing(self, thing: SimObject) -> Obstacles:
        """The same and one thing more."""
        more = copy(self)
        more.__dict__.pop("_distances", None)
        more._boxes = np.concatenate([self._boxes, self._boxes_of([thing])])
        return more

    def distance(self, xy: np.ndarray, height: float | None = None) -> float:
        """From a place (2,) to the nearest box or wall [m]; 0 or less inside of one.

        Args:
            height: count the heights of boxes, floor and ceiling as well, for something that flies.
        """
        walls = min(*xy, *(self.size[:2] - xy))
        if height is not None:
            walls = min(walls, height, self.size[2] - height)
        return float(min(walls, self._to_boxes(xy[None], height)[0]))

    def free(self, clearance: float) -> np.ndarray:
        """(X, Y) bool cells of ``CELL``, whose middles have nothing within ``clearance`` [m]."""
        return self._distances >= clearance

    def ranges(self, xy: np.ndarray, bearings: np.ndarray, height: float) -> np.ndarray:
        """How far a level ray gets before it meets a box or a wall -> (N,) [m].

        Args:
            xy: (2,) place inside the room that the rays start from.
            bearings: (N,) of the rays in the room's frame [rad].
            height: of the rays [m].
        """
        rays = np.stack([np.cos(bearings), np.sin(bearings)], axis=1)
        ends = np.where(rays > 0, self.size[:2], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(rays != 0, (ends - xy) / rays, np.inf).min(axis=1)
            boxes = self._boxes[(self._boxes[:, 6] <= height) & (self._boxes[:, 7] >= height)]
            cos, sin = boxes[:, 4], boxes[:, 5]
            dx, dy = xy[0] - boxes[:, 0], xy[1] - boxes[:, 1]
            start = np.stack([dx * cos + dy * sin, dy * cos - dx * sin], axis=-1)
            x, y = rays[:, :1], rays[:, 1:]
            along = np.stack([x * cos + y * sin, y * cos - x * sin], axis=-1)
            one, other = ((side * boxes[:, 2:4] - start) / along for side in (-1.0, 1.0))
        # A ray along a side that it starts on has 0/0 there: it passes.
        enter = np.nanmax(np.minimum(one, other), axis=-1, initial=-np.inf)
        leave = np.nanmin(np.maximum(one, other), axis=-1, initial=np.inf)
        hit = np.where((enter <= leave) & (leave >= 0), np.maximum(enter, 0.0), np.inf)
        return np.minimum(reach, hit.min(axis=1, initial=np.inf))

    def _boxes_of(self, things: list[SimObject]) -> np.ndarray:
        """(N, 8) boxes of the things' parts that reach into the heights that matter."""
        rows = [
            upright_boxes((part.bounds for part in thing.parts), self._T_room_world @ thing.T_world_object)
            for thing in things
        ]
        boxes = np.concatenate(rows) if rows else np.zeros((0, 8))
        return boxes[(boxes[:, 7] > self._low) & (boxes[:, 6] < self._high)]

    @cached_property
    def _distances(self) -> np.ndarray:
        """(X, Y) distance of the middle of each cell to the nearest box or wall [m]."""
        cells = np.ceil(self.size[:2] / CELL).astype(int)
        x, y = np.meshgrid(*((np.arange(n) + 0.5) * CELL for n in cells), indexing="ij")
        walls = np.minimum(np.minimum(x, self.size[0] - x), np.minimum(y, self.size[1] - y))
        places = np.stack([x.ravel(), y.ravel()], axis=1)
        return np.minimum(walls, self._to_boxes(places, None).reshape(x.shape))

    def _to_boxes(self, places: np.ndarray, height: float | None) -> np.ndarray:
        """(N,) distances of (N, 2) places to the nearest box [m], negative inside; infinite without boxes."""
        nearest = np.full(len(places), np.inf)
        if not len(self._boxes):
            return nearest
        for some in np.array_split(np.arange(len(places)), 1 + len(places) // 1000):
            dx, dy = (places[some, None, k] - self._boxes[:, k] for k in range(2))
            cos, sin = self._boxes[:, 4], self._boxes[:, 5]
            out = [np.abs(dx * cos + dy * sin) - self._boxes[:, 2], np.abs(dy * cos - dx * sin) - self._boxes[:, 3]]
            if height is not None:
                over = np.maximum(self._boxes[:, 6] - height, height - self._boxes[:, 7])
                out.append(np.broadcast_to(over, dx.shape))
            outside = np.stack(out)
            gaps = np.sqrt((np.maximum(outside, 0) ** 2).sum(axis=0)) + np.minimum(outside.max(axis=0), 0)
            nearest[some] = gaps.min(axis=1)
        return nearest
