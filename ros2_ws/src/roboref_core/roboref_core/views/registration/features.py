"""What registration needs of one view, computed once when first asked for: image features and its surface."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from roboref_core.geometry.camera import Camera, map_pixels
from roboref_core.views.view import LazyImage, View, valid_depth

_FEATURES = 1000
# Depth is read at about this width for normals [pixel]: finer ones are noise.
_SURFACE_WIDTH = 320
# Points of a view that are laid on the surface of another.
_POINTS = 2500
# Neighbouring depths further apart than this share of the depth are two surfaces.
_EDGE = 0.03
_MIN_DEPTH, _MAX_DEPTH = 0.1, 10.0

Part = TypeVar("Part")


@dataclass(frozen=True, eq=False)
class Surface:
    """The measured surface of a view, in its optical frame.

    Attributes:
        camera: of the (h, w) images below.
        vertices: (h, w, 3) float32 [m]; NaN where there is no measurement.
        normals: (h, w, 3) float32 unit vectors towards the camera; NaN at edges and holes.
        points: (N, 3) vertices that have a normal, spread over the picture.
    """

    camera: Camera
    vertices: np.ndarray
    normals: np.ndarray
    points: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.vertices.nbytes + self.normals.nbytes + self.points.nbytes


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """Attributes:
    rays: (K, 2) x/z and y/z of SIFT keypoints.
    pixels: (K, 2) of the colour image.
    descriptors: (K, 128) float32, square roots of normalised SIFT histograms: unit vectors.
    points: (K, 3) in the optical frame [m]; NaN where the keypoint has no certain depth.
    surface: None without depth.
    """

    rays: np.ndarray
    pixels: np.ndarray
    descriptors: np.ndarray
    points: np.ndarray
    surface: Surface | None

    @property
    def nbytes(self) -> int:
        """Bytes of the features, without the surface."""
        return sum(array.nbytes for array in (self.rays, self.pixels, self.descriptors, self.points))


def extract(view: View, surface: Surface | None) -> ViewFeatures:
    """Features of a view's colour image, with depth where there is some. Raises ImageError for a broken image."""
    import cv2

    gray = cv2.cvtColor(np.ascontiguousarray(view.color), cv2.COLOR_RGB2GRAY)
    # Large pictures are read at VGA's scale: finer features cost time and match no better.
    scale = max(1.0, gray.shape[1] / 640.0)
    if scale > 1.0:
        gray = cv2.resize(gray, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    keypoints, descriptors = cv2.SIFT.create(_FEATURES).detectAndCompute(gray, None)
    if descriptors is None:
        pixels, descriptors = np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    else:
        pixels = (np.array([k.pt for k in keypoints], dtype=np.float64) + 0.5) * scale - 0.5
    rays = view.camera.rays(pixels)
    known = np.isfinite(rays).all(axis=1)
    pixels, rays, descriptors = pixels[known], rays[known], descriptors[known]
    # Roots of histograms compare better than histograms (Arandjelovic and Zisserman 2012).
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    return ViewFeatures(rays[:, :2], pixels, descriptors, _depths(view, pixels)[:, None] * rays, surface)


def _depths(view: View, pixels: np.ndarray) -> np.ndarray:
    """(K,) depth at pixels of the colour image [m]; NaN where the four around it are not one surface."""
    z = np.full(len(pixels), np.nan)
    if not view.has_depth or len(pixels) == 0:
        return z
    depth = view.depth
    assert depth is not None
    at = np.nan_to_num(map_pixels(pixels, view.camera, view.depth_camera), nan=-9.0)
    corner = np.floor(at).astype(np.int64)
    h, w = depth.shape
    inside = (corner >= 0).all(axis=1) & (corner[:, 0] < w - 1) & (corner[:, 1] < h - 1)
    u, v = corner[inside].T
    four = np.stack([depth[v, u], depth[v, u + 1], depth[v + 1, u], depth[v + 1, u + 1]]).astype(np.float64)
    good = (valid_depth(four) & (four > _MIN_DEPTH) & (four < _MAX_DEPTH)).all(axis=0)
    with np.errstate(invalid="ignore"):
        good &= np.ptp(four, axis=0) < _EDGE * four.min(axis=0)
    fu, fv = (at[inside] - corner[inside]).T
    weights = np.stack([(1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv])
    # Depth of a plane is linear in the pixel as its inverse, not as itself.
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 1.0 / (weights / four).sum(axis=0)
    z[np.flatnonzero(inside)[good]] = value[good]
    return z


def surface_of(view: View) -> Surface | None:
    """The measured surface of a view; None without depth. Raises ImageError for a broken depth image."""
    if not view.has_depth:
        return None
    depth = view.depth
    assert depth is not None
    step = max(1, round(depth.shape[1] / _SURFACE_WIDTH))
    z = depth[::step, ::step].astype(np.float32)
    camera = view.depth_camera.subsampled(step)
    rays = _ray_image(camera)
    good = valid_depth(z) & (z > _MIN_DEPTH) & (z < _MAX_DEPTH) & np.isfinite(rays).all(axis=2)
    vertices = np.where(good[..., None], rays * z[..., None], np.float32(np.nan))
    normals = _normals(vertices, z)
    v, u = np.nonzero(np.isfinite(normals[..., 0]))
    chosen = slice(None, None, max(1, len(v) // _POINTS))
    return Surface(camera, vertices, normals, vertices[v[chosen], u[chosen]].astype(np.float64))


@functools.lru_cache(maxsize=4)
def _ray_image(camera: Camera) -> np.ndarray:
    """(h, w, 3) float32 rays of all pixels; kept, as removing a distortion from so many takes time."""
    pixels = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).reshape(-1, 2)
    return camera.rays(pixels).reshape(camera.height, camera.width, 3).astype(np.float32)


def _normals(vertices: np.ndarray, z: np.ndarray, reach: int = 2) -> np.ndarray:
    """Normals over neighbours ``reach`` pixels away, after smoothing: central differences on noisy depth are noise."""
    import cv2

    known = np.isfinite(vertices).all(axis=2)
    weight = cv2.blur(known.astype(np.float32), (3, 3))
    smooth = cv2.blur(np.where(known[..., None], vertices, 0.0), (3, 3)) / np.maximum(weight, 1e-6)[..., None]
    normals = np.full_like(vertices, np.nan)
    r = reach
    du = smooth[r:-r, 2 * r :] - smooth[r:-r, : -2 * r]
    dv = smooth[2 * r :, r:-r] - smooth[: -2 * r, r:-r]
    n = np.cross(dv, du)
    with np.errstate(invalid="ignore", divide="ignore"):
        n /= np.linalg.norm(n, axis=2, keepdims=True)
    # Of a surface, everything that the smoothed neighbours hold was measured and lies near; across an edge there is no
    # normal, nor is there one of which a smoothed neighbour holds some of the other side.
    e = r + 1
    window = np.ones((2 * e + 1, 2 * e + 1), np.uint8)
    solid = cv2.erode(known.astype(np.uint8), window).astype(bool)
    filled = np.where(known, z, np.float32(0.0))
    with np.errstate(invalid="ignore"):
        solid &= cv2.dilate(filled, window) - cv2.erode(filled, window) < 2 * e * _EDGE * z
    solid = solid[r:-r, r:-r]
    normals[r:-r, r:-r] = np.where(solid[..., None] & np.isfinite(n).all(axis=2, keepdims=True), n, np.nan)
    return normals


class FeatureCache:
    """Features and surfaces of the views used last, at most ``max_bytes`` of them. Safe from several threads.

    They belong to the images: a view under several poses is one entry, and an entry ends with its images.
    """

    def __init__(self, max_bytes: int = 256_000_000):
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._features: weakref.WeakKeyDictionary[LazyImage, ViewFeatures] = weakref.WeakKeyDictionary()
        self._surfaces: weakref.WeakKeyDictionary[LazyImage, Surface | None] = weakref.WeakKeyDictionary()

    def of(self, view: View) -> ViewFeatures:
        """Features of a view, computed when first asked for. Raises ImageError if an image is broken."""
        return self._held(self._features, view, lambda view: extract(view, self.surface(view)))

    def surface(self, view: View) -> Surface | None:
        """The surface alone, without looking for features in the colour image; None without depth."""
        return self._held(self._surfaces, view, surface_of)

    def _held(
        self, held: weakref.WeakKeyDictionary[LazyImage, Part], view: View, compute: Callable[[View], Part]
    ) -> Part:
        key = view.images
        with self._lock:
            if key in held:
                part = held.pop(key)
                held[key] = part  # The order of the entries is that of their last use.
                return part
        part = compute(view)
        with self._lock:
            held[key] = part
            self._shrink(key)
        return part

    def _shrink(self, newest: LazyImage) -> None:
        for key in list(self._surfaces):
            if self.nbytes <= self.max_bytes:
                return
            if key is not newest:
                self._surfaces.pop(key, None)
                self._features.pop(key, None)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        surfaces = sum(surface.nbytes for surface in list(self._surfaces.values()) if surface is not None)
        return surfaces + sum(features.nbytes for features in list(self._features.values()))
