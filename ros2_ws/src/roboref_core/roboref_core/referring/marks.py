"""A mark in one view, a question in another: resolves marked regions to pixels and to places in the world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.pointing_model import Mark
from roboref_core.referring.frames import FrameLookup, lookup
from roboref_core.referring.query import MarkedRegion, RegionType
from roboref_core.views.locate import DepthSource, LocateConfig, locate, surface_in_box
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer


def resolve(
    region: MarkedRegion, searched: View, buffer: ViewBuffer, frames: FrameLookup | None, config: LocateConfig
) -> Mark:
    """Find the view, the pixel and, where depth and pose allow, the place of a marked region.

    Raises ReferError: VIEW_NOT_FOUND, INVALID_QUERY (mark outside the image, not finite, box inside
    out), TF_ERROR (a position in a frame that cannot be reached).
    """
    if region.type == RegionType.POSITION:
        return _from_position(region, searched, frames)
    view = buffer.get(region.view_id) if region.view_id else searched
    if view is None:
        raise ReferError(ErrorCode.VIEW_NOT_FOUND, f"the mark's view {region.view_id!r} is not buffered (any more)")
    buffer.keep(view)
    if region.type == RegionType.POINT:
        pixel = _checked_pixel(region.point, view)
        return _located(Mark(view=view, pixel=pixel, label=region.label), view, pixel, config)
    if region.type == RegionType.BOX:
        return _from_box(region, view, config)
    raise ReferError(ErrorCode.INVALID_QUERY, f"unknown type {region.type} of a marked region")


def _from_position(region: MarkedRegion, searched: View, frames: FrameLookup | None) -> Mark:
    position = np.asarray(region.position, dtype=np.float64)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise ReferError(ErrorCode.INVALID_QUERY, f"a marked position must be three finite numbers, found {position}")
    T = lookup(frames, searched.world_frame, region.frame_id or searched.world_frame, searched.stamp_ns)
    position = transform(T, position)
    mark = Mark(view=None, pixel=None, position=position, covariance=np.zeros((3, 3)), label=region.label)
    if searched.T_world_camera is None:
        return mark
    pixel = searched.camera.project(transform(inverse(searched.T_world_camera), position))
    if not searched.camera.contains(pixel)[0]:
        return mark
    return replace(mark, view=searched, pixel=(float(pixel[0, 0]), float(pixel[0, 1])))


def _from_box(region: MarkedRegion, view: View, config: LocateConfig) -> Mark:
    u0, v0, u1, v1 = region.box
    if u1 < u0 or v1 < v0:
        raise ReferError(ErrorCode.INVALID_QUERY, f"marked box is inside out: ({u0}, {v0}) to ({u1}, {v1})")
    _checked_pixel((u0, v0), view)
    _checked_pixel((u1, v1), view)
    box = (float(u0), float(v0), float(u1), float(v1))
    centre = ((u0 + u1) / 2, (v0 + v1) / 2)
    mark = Mark(view=view, pixel=centre, box=box, label=region.label)
    if view.T_world_camera is None or not view.has_depth:
        return mark
    points = surface_in_box(view, box, config)
    if len(points) == 0:
        return _located(mark, view, centre, config)
    # The point of the surface nearest to its middle: on the object, where the box's centre need not be.
    middle = np.median(points, axis=0)
    nearest = points[np.argmin(((points - middle) ** 2).sum(axis=1))]
    return replace(mark, position=nearest, covariance=np.cov(points.T) if len(points) > 1 else np.zeros((3, 3)))


def _located(mark: Mark, view: View, pixel: tuple[float, float], config: LocateConfig) -> Mark:
    place = locate(view, pixel, None, config)
    if place.source == DepthSource.NONE or not place.in_world:
        return mark
    return replace(mark, position=place.point, covariance=place.covariance)


def _checked_pixel(pixel, view: View) -> tuple[float, float]:
    if not view.camera.contains(np.asarray(pixel, dtype=np.float64))[0]:
        raise ReferError(
            ErrorCode.INVALID_QUERY,
            f"mark ({pixel[0]:g}, {pixel[1]:g}) lies outside view {view.view_id}, which is "
            f"{view.camera.width}x{view.camera.height} pixels",
        )
    return (float(pixel[0]), float(pixel[1]))
