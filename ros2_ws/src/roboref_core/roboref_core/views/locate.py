"""Pixel -> 3D with honest depth: which surface the pixel is on, how far it is, and how well that is known.

Depth is read from a patch. Its values are split into layers at depth gaps, and the layer that the
pixel itself lies on is kept, never an average across an edge. On that layer inverse depth is fitted
as an affine function of the pixel, which is exact for planes under a pinhole camera; the fit gives
depth at the sub-pixel, its gradient, and the spread around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike

from roboref_core.geometry.camera import map_pixels
from roboref_core.geometry.pose import carried_covariance, transform
from roboref_core.views.view import View, valid_depth

_OUTLINE_SIGMA = 0.6
"""How well the outlines of a depth image stand for those of the colour image [pixel of the depth image]."""
_RIVAL_RADIUS = 15
"""Farthest that another surface is sought [pixel of the depth image]."""
_RIVAL_SHARE = 0.005
"""Another surface counts if the pixel lies on it with this probability."""
_REACH_95 = 2.4
"""A 95 % ellipsoid reaches 2.8 standard deviations; a step is given so many, so that it is well inside."""
_FILLED_SIGMA = 0.1
"""Standard deviation of depth in a hole, as a share of the depth around it. What leaves a hole in depth is often thin,
dark or shiny and in front of what surrounds it: a pen held 0.3 m in front of a table that is 1.3 m away."""


class DepthSource(IntEnum):
    NONE = 0
    SENSOR = 1
    FILLED = 2
    ESTIMATED = 3


@dataclass(frozen=True)
class LocateConfig:
    """How depth is read.

    Attributes:
        min_depth, max_depth: measurements outside are no measurements [m].
        patch_radius: half the side of the patch [pixel of the depth image].
        fill_radius: how far from a hole its depth may be taken [pixel]; 0: never.
        fill_share: share of the values around a hole that must lie on one surface.
        gap_base, gap_slope: neighbouring depths further apart than base + slope * depth are two surfaces [m, m/m].
        pixel_sigma: standard deviation of a pixel given without its own covariance [pixel].
        noise_base, noise_quadratic, noise_origin: sensor sigma = base + quadratic * (depth - origin)^2 [m];
            the defaults are the Kinect's axial noise (Nguyen, Izadi, Lovell 2012).
        pose_translation_sigma, pose_rotation_sigma: standard deviation of camera poses, per axis [m, rad]. What a
            position in the world owes to localisation; zero where poses are exact. Of views without a covariance of
            their own.
    """

    min_depth: float = 0.1
    max_depth: float = 10.0
    patch_radius: int = 3
    fill_radius: int = 8
    fill_share: float = 0.95
    gap_base: float = 0.015
    gap_slope: float = 0.015
    pixel_sigma: float = 0.5
    noise_base: float = 0.0012
    noise_quadratic: float = 0.0019
    noise_origin: float = 0.4
    pose_translation_sigma: float = 0.0
    pose_rotation_sigma: float = 0.0

    def gap(self, depth: np.ndarray) -> np.ndarray:
        return self.gap_base + self.gap_slope * depth

    def sensor_sigma(self, depth: float) -> float:
        """Axial standard deviation of one measurement [m]."""
        return self.noise_base + self.noise_quadratic * (depth - self.noise_origin) ** 2


@dataclass(frozen=True)
class Location:
    """Where a pixel lies in space. With ``source`` NONE all else is meaningless.

    Attributes:
        point, covariance: (3,) [m] and (3, 3) [m^2], in the frame named by ``in_world``.
        depth, spread: along the optical axis, and standard deviation of the surface around the fit [m].
        in_world: True: the view's world frame; False: its optical frame (the view has no pose).
    """

    source: DepthSource
    point: np.ndarray | None = None
    covariance: np.ndarray | None = None
    depth: float = 0.0
    spread: float = 0.0
    in_world: bool = False


NOWHERE = Location(DepthSource.NONE)


def locate(
    view: View,
    pixel: ArrayLike,
    pixel_covariance: np.ndarray | None = None,
    config: LocateConfig | None = None,
) -> Location:
    """3D point seen at ``pixel`` (u, v) of the view's colour image.

    Args:
        pixel_covariance: (2, 2) [pixel^2] of the colour image; None: ``config.pixel_sigma`` squared.

    Returns:
        A Location in the world frame, or in the optical frame if the view has no pose; source NONE
        where there is no depth, which is never a position.
    """
    config = config or LocateConfig()
    if not view.has_depth:
        return NOWHERE
    pixel = np.asarray(pixel, dtype=np.float64).reshape(1, 2)
    if pixel_covariance is None:
        pixel_covariance = np.eye(2) * config.pixel_sigma**2
    depth_pixel = map_pixels(pixel, view.camera, view.depth_camera)[0]
    image = view.depth
    surface = None if image is None else surface_at(image, depth_pixel, config)
    if surface is None:
        return NOWHERE

    # Moving the pixel by one moves the ray and, on a slanted surface, the depth: differentiate both at once.
    def point_of(pixels: np.ndarray) -> np.ndarray:
        depths = surface.depth_at(map_pixels(pixels, view.camera, view.depth_camera))
        return view.camera.unproject(pixels, depths)

    step = 0.5
    around = pixel + np.array([[0, 0], [step, 0], [-step, 0], [0, step], [0, -step]])
    p = point_of(around)
    if not np.isfinite(p).all():
        return NOWHERE
    jacobian = np.stack([(p[1] - p[2]) / (2 * step), (p[3] - p[4]) / (2 * step)], axis=1)
    ray = view.camera.rays(pixel)[0]
    depth = float(p[0][2])
    variance = config.sensor_sigma(depth) ** 2 + surface.spread**2
    if surface.source is DepthSource.FILLED:
        variance += (_FILLED_SIGMA * depth) ** 2
    variance += (_rival_step(view, depth_pixel, pixel_covariance, depth, config) / _REACH_95) ** 2
    covariance = jacobian @ pixel_covariance @ jacobian.T + variance * np.outer(ray, ray)
    point, T_world_camera = p[0], view.T_world_camera
    if T_world_camera is not None:
        pose_covariance = view.pose_covariance
        if pose_covariance is None:
            pose_covariance = np.diag([config.pose_translation_sigma**2] * 3 + [config.pose_rotation_sigma**2] * 3)
        covariance = covariance + carried_covariance(point, pose_covariance)
        R = T_world_camera[:3, :3]
        point, covariance = transform(T_world_camera, point), R @ covariance @ R.T
    return Location(surface.source, point, covariance, depth, surface.spread, T_world_camera is not None)


def _rival_step(
    view: View, depth_pixel: np.ndarray, pixel_covariance: np.ndarray, depth: float, config: LocateConfig
) -> float:
    """How far the other surface is on which the pixel may lie as well [m]; 0 where there is none.

    A pixel is known to its covariance only, and the outlines of depth and colour agree to about a pixel.
    """
    image = view.depth
    assert image is not None
    scale = view.depth_camera.width / view.camera.width
    sigma = scale * float(np.sqrt(max(np.linalg.eigvalsh(pixel_covariance)[-1], 0.0)))
    blur = float(np.hypot(sigma, _OUTLINE_SIGMA))
    radius = int(np.clip(np.ceil(2.5 * blur), 2, _RIVAL_RADIUS))
    centre = np.floor(depth_pixel + 0.5).astype(np.int64)
    pixels, values = _patch(image, int(centre[0]), int(centre[1]), radius, config)
    if len(values) == 0:
        return 0.0
    weight = np.exp(-0.5 * ((pixels - depth_pixel) ** 2).sum(axis=1) / blur**2)
    layers = _layers(values, config)
    own = layers == layers[np.argmin(np.abs(values - depth))]
    step = 0.0
    for layer in np.unique(layers[~own]):
        there = layers == layer
        if weight[there].sum() >= _RIVAL_SHARE * weight.sum():
            step = max(step, float(np.abs(values[there] - depth).max()))
    return step


@dataclass(frozen=True)
class Surface:
    """The layer of a depth image that a pixel lies on: 1 / depth = a * u + b * v + c around it.

    Attributes:
        source: SENSOR if the pixel itself was measured, FILLED if its neighbours were.
        coefficients: (a, b, c), of pixels relative to ``origin``.
        limits: least and greatest depth of the layer [m]; the fit never leaves them.
        spread: standard deviation of depth around the fit [m].
    """

    source: DepthSource
    coefficients: np.ndarray
    origin: np.ndarray
    limits: tuple[float, float]
    spread: float

    def depth_at(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 2) pixels of the depth image -> (N,) depth [m]."""
        inverse_depth = (np.asarray(pixels) - self.origin) @ self.coefficients[:2] + self.coefficients[2]
        return 1.0 / np.clip(inverse_depth, 1.0 / self.limits[1], 1.0 / self.limits[0])


def surface_at(depth: np.ndarray, pixel: np.ndarray, config: LocateConfig) -> Surface | None:
    """The surface at sub-pixel ``pixel`` of a depth image [m]; None where that cannot be said."""
    if not np.isfinite(pixel).all():
        return None
    h, w = depth.shape
    cu, cv = int(np.floor(pixel[0] + 0.5)), int(np.floor(pixel[1] + 0.5))
    if not (0 <= cu < w and 0 <= cv < h):
        return None
    pixels, values = _patch(depth, cu, cv, config.patch_radius, config)
    layers = _layers(values, config)
    at_centre = (pixels[:, 0] == cu) & (pixels[:, 1] == cv)
    if at_centre.any():
        own = layers == layers[at_centre][0]
        # A lone value between two surfaces is a mixed pixel of the sensor's, not a surface.
        if own.sum() >= min(3, len(values)) or len(values) == 1:
            return _fit(DepthSource.SENSOR, pixels[own], values[own], pixel)
    return _fill(depth, cu, cv, pixel, config)


def _fill(depth: np.ndarray, cu: int, cv: int, pixel: np.ndarray, config: LocateConfig) -> Surface | None:
    """The surface around a hole, if what surrounds it is one surface."""
    if config.fill_radius == 0:
        return None
    pixels, values = _patch(depth, cu, cv, config.fill_radius, config)
    distance = np.hypot(pixels[:, 0] - pixel[0], pixels[:, 1] - pixel[1])
    near = distance <= config.fill_radius
    pixels, values, distance = pixels[near], values[near], distance[near]
    if len(values) < 3:
        return None
    # All that the circle holds must be one surface: what the hole belongs to may be any of several.
    layers = _layers(values, config)
    best = np.bincount(layers).argmax()
    own = layers == best
    if own.mean() < config.fill_share:
        return None
    # Depth itself is that of the rim: values just beyond the hole.
    rim = own & (distance <= distance[own].min() + config.patch_radius)
    if rim.sum() < 3:
        return None
    pixels, values, own = pixels[rim], values[rim], own[rim]
    return _fit(DepthSource.FILLED, pixels[own], values[own], pixel)


def _patch(depth: np.ndarray, cu: int, cv: int, radius: int, config: LocateConfig) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) and values (N,) of the valid measurements in the square around (cu, cv)."""
    h, w = depth.shape
    u0, u1 = max(cu - radius, 0), min(cu + radius + 1, w)
    v0, v1 = max(cv - radius, 0), min(cv + radius + 1, h)
    values = depth[v0:v1, u0:u1].astype(np.float64)
    with np.errstate(invalid="ignore"):
        good = valid_depth(values) & (values >= config.min_depth) & (values <= config.max_depth)
    v, u = np.nonzero(good)
    return np.stack([u + u0, v + v0], axis=1), values[good]


def _layers(values: np.ndarray, config: LocateConfig) -> np.ndarray:
    """Label each value with its layer: layers part where sorted neighbours are further apart than a gap."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    labels = np.empty(len(values), dtype=np.int64)
    if len(values):
        labels[order] = np.concatenate([[0], np.cumsum(np.diff(ordered) > config.gap(ordered[:-1]))])
    return labels


def _fit(source: DepthSource, pixels: np.ndarray, values: np.ndarray, pixel: np.ndarray) -> Surface:
    offsets = pixels - pixel
    inverse_depth = 1.0 / values
    coefficients = np.array([0.0, 0.0, np.median(inverse_depth)])
    if len(values) >= 6 and np.linalg.matrix_rank(offsets - offsets.mean(axis=0)) == 2:
        columns = np.column_stack([offsets, np.ones(len(values))])
        # Nearer values count more; two reweightings keep a few outliers of the layer from tilting the plane.
        weight = 1.0 / (1.0 + (offsets**2).sum(axis=1))
        for _ in range(3):
            root = np.sqrt(weight)[:, None]
            coefficients = np.linalg.lstsq(columns * root, inverse_depth * root[:, 0], rcond=None)[0]
            residual = np.abs(columns @ coefficients - inverse_depth)
            scale = 1.4826 * np.median(residual) + 1e-9
            weight = 1.0 / (1.0 + (offsets**2).sum(axis=1)) / (1.0 + (residual / (2 * scale)) ** 2)
    limits = (float(values.min()), float(values.max()))
    surface = Surface(source, coefficients, np.asarray(pixel, dtype=np.float64), limits, 0.0)
    deviation = values - surface.depth_at(pixels)
    # Robust and never below what the layer shows; one value alone shows nothing of its spread.
    spread = 1.4826 * float(np.median(np.abs(deviation))) if len(values) > 1 else 0.0
    return Surface(source, coefficients, surface.origin, limits, spread)


def surface_in_box(
    view: View,
    box: tuple[float, float, float, float],
    config: LocateConfig | None = None,
    max_points: int = 400,
) -> np.ndarray:
    """(N, 3) world points of the object that ``box`` (u_min, v_min, u_max, v_max) frames; N may be 0.

    The object is the depth layer that most of the box's inner half lies on; what looks past it to the
    background is left out. The view needs depth and a pose.
    """
    config = config or LocateConfig()
    image, T_world_camera = view.depth, view.T_world_camera
    if image is None or T_world_camera is None:
        raise ValueError(f"view {view.view_id} needs depth and a camera pose for the surface in a box")
    side = max(int(np.sqrt(max_points)), 2)
    u = np.linspace(box[0], box[2], side)
    v = np.linspace(box[1], box[3], side)
    pixels = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    inside = view.camera.contains(pixels)
    pixels = pixels[inside]
    depth_pixels = np.rint(map_pixels(pixels, view.camera, view.depth_camera))
    on_image = view.depth_camera.contains(depth_pixels)
    pixels, depth_pixels = pixels[on_image], depth_pixels[on_image].astype(np.int64)
    values = image[depth_pixels[:, 1], depth_pixels[:, 0]].astype(np.float64)
    with np.errstate(invalid="ignore"):
        good = valid_depth(values) & (values >= config.min_depth) & (values <= config.max_depth)
    pixels, values = pixels[good], values[good]
    centre, half = np.array([box[0] + box[2], box[1] + box[3]]) / 2, np.array([box[2] - box[0], box[3] - box[1]]) / 4
    inner = (np.abs(pixels - centre) <= half + 0.5).all(axis=1)
    if not inner.any():
        return np.zeros((0, 3))
    layers = _layers(values, config)
    own = layers == np.bincount(layers[inner]).argmax()
    return transform(T_world_camera, view.camera.unproject(pixels[own], values[own]))
