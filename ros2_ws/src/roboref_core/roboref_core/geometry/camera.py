"""Pinhole camera with lens distortion: the one place where pixels and rays meet.

Pixels are (u, v) = (column, row) with pixel centres at integers; the camera frame is OpenCV's
optical frame (x right, y down, z forward), lengths in metres. Distortion models are those of
sensor_msgs/CameraInfo (REP-104 and the OpenCV calibration chapters they come from).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

# Name in CameraInfo.distortion_model -> numbers of coefficients it may carry.
DISTORTION_COEFFICIENTS = {
    "none": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8,),
    "equidistant": (4,),
}
_UNDISTORT_ITERATIONS = 50
_UNDISTORT_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one image.

    Attributes:
        width, height: image size [pixel].
        fx, fy, cx, cy: focal lengths and principal point [pixel].
        distortion_model: a key of ``DISTORTION_COEFFICIENTS``.
        distortion: its coefficients, in OpenCV's order.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = "none"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"camera size must be positive, found {self.width}x{self.height}")
        intrinsics = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(intrinsics).all() or self.fx <= 0 or self.fy <= 0:
            raise ValueError(
                f"camera needs finite intrinsics with fx, fy > 0, found fx={self.fx}, fy={self.fy}, "
                f"cx={self.cx}, cy={self.cy} (an uncalibrated camera_info holds zeros)"
            )
        counts = DISTORTION_COEFFICIENTS.get(self.distortion_model)
        if counts is None:
            raise ValueError(
                f"unknown distortion model {self.distortion_model!r}, expected one of "
                f"{', '.join(DISTORTION_COEFFICIENTS)}"
            )
        if len(self.distortion) not in counts:
            raise ValueError(
                f"distortion model {self.distortion_model!r} takes {' or '.join(map(str, counts))} "
                f"coefficients, found {len(self.distortion)}"
            )
        if not np.isfinite(self.distortion).all():
            raise ValueError(f"distortion coefficients must be finite, found {self.distortion}")

    @classmethod
    def from_camera_info(
        cls, width: int, height: int, k: Sequence[float], distortion_model: str = "", d: Sequence[float] = ()
    ) -> Camera:
        """Build from the fields of a sensor_msgs/CameraInfo: ``k`` is the row-major 3x3 matrix.

        An empty model name, or coefficients that are all zero, mean no distortion, which is how
        drivers of rectified images fill the message.
        """
        k = [float(x) for x in k]
        if len(k) != 9:
            raise ValueError(f"camera_info K must have 9 entries, found {len(k)}")
        if k[1] != 0.0:
            raise ValueError(f"camera_info K has skew {k[1]}, expected 0")
        d = tuple(float(x) for x in d)
        model = distortion_model or "none"
        if model == "none" or (model in DISTORTION_COEFFICIENTS and not any(d)):
            if any(d):
                raise ValueError(f"camera_info has distortion coefficients {d} but names no distortion model")
            model, d = "none", ()
        return cls(int(width), int(height), k[0], k[4], k[2], k[5], model, d)

    @property
    def matrix(self) -> np.ndarray:
        """The 3x3 intrinsic matrix K, float64."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for its image resampled to another size.

        Pixel centres are at integers, so the image's edge lies at -0.5 and it is the edge that scales.
        """
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def subsampled(self, step: int) -> Camera:
        """The same camera for every ``step``-th pixel of its image, the first one kept."""
        return replace(
            self,
            width=-(-self.width // step),
            height=-(-self.height // step),
            fx=self.fx / step,
            fy=self.fy / step,
            cx=self.cx / step,
            cy=self.cy / step,
        )

    def check_size(self, shape: Sequence[int], what: str) -> None:
        """Raise ValueError unless an image of ``shape`` (H, W, ...) belongs to this camera."""
        if tuple(shape[:2]) != (self.height, self.width):
            raise ValueError(
                f"{what} is {shape[1]}x{shape[0]} pixels, but its camera info says {self.width}x{self.height}"
            )

    def contains(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 2) pixels -> (N,) bool, true inside the image's outline; false for NaN."""
        u, v = np.asarray(pixels, dtype=np.float64).reshape(-1, 2).T
        return (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points in the camera frame [m] -> (N, 2) pixels; NaN where z <= 0.

        A lens polynomial may fold far-off points back into the picture; points beyond the field in
        which the distortion is invertible give NaN too.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        z = points[:, 2]
        in_front = z > 1e-9
        xy = np.full((len(points), 2), np.nan)
        xy[in_front] = points[in_front, :2] / z[in_front, None]
        if self.distortion_model != "none":
            xy = self._distort(xy)
        return xy * (self.fx, self.fy) + (self.cx, self.cy)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 2) pixels -> (N, 3) undistorted viewing directions with z = 1 (camera frame)."""
        pixels = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
        xy = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        if self.distortion_model != "none":
            xy = self._undistort(xy)
        return np.concatenate([xy, np.ones((len(xy), 1))], axis=1)

    def unproject(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """(N, 2) pixels and (N,) depth along the optical axis [m] -> (N, 3) points (camera frame)."""
        depth = np.asarray(depth, dtype=np.float64).reshape(-1, 1)
        return self.rays(pixels) * depth

    def _distort(self, xy: np.ndarray) -> np.ndarray:
        """Ideal normalised coordinates -> distorted ones; NaN where the model is not invertible."""
        with np.errstate(all="ignore"):
            distorted, monotonic = self._distort_raw(xy)
        return np.where(monotonic[:, None], distorted, np.nan)

    def _distort_raw(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = xy.T
        r2 = x * x + y * y
        if self.distortion_model == "equidistant":
            return self._distort_equidistant(xy, np.sqrt(r2))
        k1, k2, p1, p2, k3, k4, k5, k6 = (*self.distortion, 0, 0, 0, 0)[:8]
        above = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        below = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        radial = above / below
        # d(r * radial)/dr > 0 is the condition under which a radius has one image.
        d_above = 2 * k1 + r2 * (4 * k2 + r2 * 6 * k3)
        d_below = 2 * k4 + r2 * (4 * k5 + r2 * 6 * k6)
        slope = radial + r2 * (d_above * below - above * d_below) / below**2
        distorted = np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=1,
        )
        return distorted, (slope > 0) & (below > 0) & (radial > 0)

    def _distort_equidistant(self, xy: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k1, k2, k3, k4 = self.distortion
        theta = np.arctan(r)
        t2 = theta * theta
        theta_d = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        slope = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
        scale = np.where(r > 1e-12, theta_d / np.where(r > 1e-12, r, 1.0), 1.0)
        return xy * scale[:, None], slope > 0

    def _undistort(self, distorted: np.ndarray) -> np.ndarray:
        """Invert ``_distort`` by Newton's method with a numerical Jacobian; NaN where it does not converge."""
        xy = distorted.copy()
        step = 1e-6
        with np.errstate(all="ignore"):
            for _ in range(_UNDISTORT_ITERATIONS):
                f, _ = self._distort_raw(xy)
                residual = f - distorted
                if not (np.abs(residual) > _UNDISTORT_TOLERANCE).any():
                    break
                fx = (self._distort_raw(xy + (step, 0.0))[0] - f) / step
                fy = (self._distort_raw(xy + (0.0, step))[0] - f) / step
                det = fx[:, 0] * fy[:, 1] - fy[:, 0] * fx[:, 1]
                dx = (fy[:, 1] * residual[:, 0] - fy[:, 0] * residual[:, 1]) / det
                dy = (fx[:, 0] * residual[:, 1] - fx[:, 1] * residual[:, 0]) / det
                move = np.stack([dx, dy], axis=1)
                # A long Newton step may jump past the fold of the polynomial: keep it inside the basin.
                length = np.linalg.norm(move, axis=1, keepdims=True)
                xy = xy - move * np.minimum(1.0, 0.5 / np.maximum(length, 1e-12))
            f, monotonic = self._distort_raw(xy)
            good = monotonic & (np.abs(f - distorted).max(axis=1) < 1e-6)
        return np.where(good[:, None], xy, np.nan)


def pixel_to_normalised(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(..., 2) pixels -> (..., 2) coordinates in [0, 1] of an image: x = (u + 0.5) / width."""
    return (np.asarray(pixels, dtype=np.float64) + 0.5) / (width, height)


def normalised_to_pixel(xy: np.ndarray, width: int, height: int) -> np.ndarray:
    """(..., 2) coordinates in [0, 1] of an image -> (..., 2) pixels: u = x * width - 0.5."""
    return np.asarray(xy, dtype=np.float64) * (width, height) - 0.5


def map_pixels(pixels: np.ndarray, source: Camera, target: Camera) -> np.ndarray:
    """(N, 2) pixels of ``source`` -> pixels of ``target``, for two registered images of one viewpoint.

    Registered images (ScanNet's 1296x968 colour and 640x480 depth) share centre and axes and differ
    in size, intrinsics and distortion only, so a pixel maps through its ray and needs no depth.
    """
    if source == target:
        return np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
    return target.project(source.rays(pixels))
