"""A scene from above, and the way that a robot took through it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from roboref_core.scene import Mesh

_PIXELS_PER_METRE, _LARGEST = 120.0, 1100
_MARGIN = 0.3
_PALE = 0.55
RECORDED, OBJECT, WAY, ANSWER, VIEW, UNCOVERED = (
    (150, 150, 150), (46, 204, 64), (20, 70, 200), (255, 0, 170), (255, 150, 0), (220, 0, 30)
)  # fmt: skip


class FloorPlan:
    """A mesh seen from above without its ceiling, pale, with world x to the right and y upwards.

    Args:
        mesh: in the world, z up.
        ceiling: what reaches above this is left out [m].
    """

    def __init__(self, mesh: Mesh, ceiling: float):
        corners = mesh.vertices[mesh.faces].astype(np.float64)
        shown = corners[..., 2].max(axis=1) < ceiling
        corners, faces = corners[shown], mesh.faces[shown]
        if not len(faces):
            raise ValueError(f"the mesh has nothing below {ceiling:.2f} m")
        low, high = corners[..., :2].min(axis=(0, 1)) - _MARGIN, corners[..., :2].max(axis=(0, 1)) + _MARGIN
        self._scale = min(_PIXELS_PER_METRE, _LARGEST / float((high - low).max()))
        self._corner = np.array([low[0], high[1]])
        width, height = np.ceil((high - low) * self._scale).astype(int)
        self._picture = np.full((height, width, 3), 255, np.uint8)
        if mesh.colors is None:
            colors = np.full((len(faces), 3), 170.0)
        else:
            colors = mesh.colors[faces].mean(axis=1)
        colors = 255 * _PALE + colors * (1 - _PALE)
        order = np.argsort(corners[..., 2].mean(axis=1), kind="stable")
        for triangle, color in zip(self._pixels(corners[order]), colors[order], strict=True):
            cv2.fillConvexPoly(self._picture, triangle, color.tolist())

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        offset = (points[..., :2] - self._corner) * (self._scale, -self._scale)
        return np.round(offset).astype(np.int32)

    def draw(
        self,
        recorded: np.ndarray,
        surface: np.ndarray,
        way: Sequence[np.ndarray],
        views: Sequence[np.ndarray],
        answers: Sequence[np.ndarray | None],
        uncovered: Sequence[np.ndarray] = (),
        path: np.ndarray | None = None,
    ) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Args:
            recorded: (N, 4, 4) poses of all recorded views.
            surface: (M, 3) points of the true object.
            way: (4, 4) poses of the robot, in turn.
            views: (4, 4) poses of the recorded views that it got.
            answers: answered place at each of them, None without.
            uncovered: (4, 4) poses that it wanted and did not get a view for.
            path: (K, 2) where it went from stop to stop; None: straight.
        """
        picture = self._picture.copy()
        known = recorded[np.isfinite(recorded).all(axis=(1, 2))]
        for u, v in self._pixels(known[:, :3, 3]):
            cv2.circle(picture, (int(u), int(v)), 2, RECORDED, -1, cv2.LINE_AA)
        pixels = self._pixels(surface)
        picture[np.clip(pixels[:, 1], 0, len(picture) - 1), np.clip(pixels[:, 0], 0, picture.shape[1] - 1)] = OBJECT
        stops = [self._pixels(T[:3, 3]).tolist() for T in way]
        for stop, view in zip(stops, views, strict=True):
            place, tip = (self._pixels(view[:3, 3] + ahead * view[:3, 2]).tolist() for ahead in (0.0, 0.25))
            cv2.line(picture, stop, place, VIEW, 1, cv2.LINE_AA)
            cv2.arrowedLine(picture, place, tip, VIEW, 2, cv2.LINE_AA, tipLength=0.35)
        line = np.array(stops, dtype=np.int32) if path is None else self._pixels(path)
        cv2.polylines(picture, [line.reshape(-1, 1, 2)], False, WAY, 2, cv2.LINE_AA)
        for n, stop in enumerate(stops):
            cv2.circle(picture, stop, 5, WAY, -1, cv2.LINE_AA)
            cv2.putText(picture, str(n), (stop[0] + 7, stop[1] - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, WAY, 1, cv2.LINE_AA)
        for T in uncovered:
            centre = self._pixels(T[:3, 3]).tolist()
            cv2.drawMarker(picture, centre, UNCOVERED, cv2.MARKER_TILTED_CROSS, 12, 2, cv2.LINE_AA)
        for place in answers:
            if place is not None:
                centre = tuple(map(int, self._pixels(place)))
                cv2.drawMarker(picture, centre, (0, 0, 0), cv2.MARKER_CROSS, 16, 4, cv2.LINE_AA)
                cv2.drawMarker(picture, centre, ANSWER, cv2.MARKER_CROSS, 15, 2, cv2.LINE_AA)
        return picture
