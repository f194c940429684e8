"""A mark in one view, a question in another: resolves marked regions to pixels and to places in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.pointing_model import BoxMark, Mark, Place, PointMark, PositionMark
from roboref_core.referring.frames import FrameLookup, lookup, view_in_world
from roboref_core.referring.query import MarkedBox, MarkedPoint, MarkedPosition, MarkedRegion
from roboref_core.views.locate import DepthSource, LocateConfig, locate, surface_in_box
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer


def resolve(region: MarkedRegion, searched: View, buffer: ViewBuffer, config: LocateConfig) -> Mark:
    """Find the view, the pixel and, where depth and pose allow, the place of a marked region.

    The place is in the world frame of the view that holds the mark, or in the frame that a marked position names.
    Raises ReferError: VIEW_NOT_FOUND, INVALID_QUERY (mark outside the image, not finite, box inside out).
    """
    if isinstance(region, MarkedPosition):
        position = np.asarray(region.position, dtype=np.float64)
        if position.shape != (3,) or not np.isfinite(position).all():
            raise ReferError(
                ErrorCode.INVALID_QUERY, f"a marked position must be three finite numbers, found {position}"
            )
        return PositionMark(Place(position, np.zeros((3, 3)), region.frame_id or searched.world_frame), region.label)
    view = buffer.get(region.view_id) if region.view_id else searched
    if view is None:
        raise ReferError(ErrorCode.VIEW_NOT_FOUND, f"the mark's view {region.view_id!r} is not buffered (any more)")
    buffer.keep(view)
    if isinstance(region, MarkedPoint):
        pixel = _checked_pixel(region.point, view)
        return PointMark(view, pixel, _place(view, pixel, config), region.label)
    return _resolve_box(region, view, config)


def mark_for_view(mark: Mark, searched: View, frames: FrameLookup | None) -> Mark:
    """The mark as a question about ``searched`` needs it.

    Its view and its place are in the world frame of ``searched``, and a position that ``searched`` sees is a
    marked pixel there. Raises ReferError(TF_ERROR) naming both frames if nothing links them.
    """
    if searched.T_world_camera is None:
        return mark
    world_frame = searched.world_frame
    if isinstance(mark, PositionMark):
        there = _moved(mark.place, world_frame, frames, searched.stamp_ns)
        pixel = searched.camera.project(transform(inverse(searched.T_world_camera), there.position))
        if not searched.camera.contains(pixel)[0]:
            return PositionMark(there, mark.label)
        return PointMark(searched, (float(pixel[0, 0]), float(pixel[0, 1])), there, mark.label)
    place = mark.place and _moved(mark.place, world_frame, frames, mark.view.stamp_ns)
    return replace(mark, view=view_in_world(mark.view, world_frame, frames), place=place)


def _moved(place: Place, world_frame: str, frames: FrameLookup | None, stamp_ns: int) -> Place:
    T = lookup(frames, world_frame, place.frame_id, stamp_ns)
    return Place(transform(T, place.position), T[:3, :3] @ place.covariance @ T[:3, :3].T, world_frame)


def _resolve_box(region: MarkedBox, view: View, config: LocateConfig) -> BoxMark:
    u0, v0, u1, v1 = region.box
    if u1 < u0 or v1 < v0:
        raise ReferError(ErrorCode.INVALID_QUERY, f"marked box is inside out: ({u0}, {v0}) to ({u1}, {v1})")
    _checked_pixel((u0, v0), view)
    _checked_pixel((u1, v1), view)
    mark = BoxMark(view, (float(u0), float(v0), float(u1), float(v1)), label=region.label)
    if view.T_world_camera is None or not view.has_depth:
        return mark
    points = surface_in_box(view, mark.box, config)
    if len(points) == 0:
        return replace(mark, place=_place(view, mark.pixel, config))
    # The point of the surface nearest to its middle: on the object, where the box's centre need not be.
    middle = np.median(points, axis=0)
    nearest = points[np.argmin(((points - middle) ** 2).sum(axis=1))]
    covariance = np.cov(points.T) if len(points) > 1 else np.zeros((3, 3))
    return replace(mark, place=Place(nearest, covariance, view.world_frame))


def _place(view: View, pixel: tuple[float, float], config: LocateConfig) -> Place | None:
    """None without depth or without a camera pose."""
    location = locate(view, pixel, None, config)
    if location.source == DepthSource.NONE or not location.in_world:
        return None
    assert location.point is not None and location.covariance is not None
    return Place(location.point, location.covariance, view.world_frame)


def _checked_pixel(pixel: Sequence[float], view: View) -> tuple[float, float]:
    if not view.camera.contains(np.asarray(pixel, dtype=np.float64))[0]:
        raise ReferError(
            ErrorCode.INVALID_QUERY,
            f"mark ({pixel[0]:g}, {pixel[1]:g}) lies outside view {view.view_id}, which is "
            f"{view.camera.width}x{view.camera.height} pixels",
        )
    return (float(pixel[0]), float(pixel[1]))
