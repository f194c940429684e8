"""What a structured-light depth sensor makes of a true depth image.

Axial noise grows with the square of the distance and, near grazing incidence, with the angle; lateral noise makes edges
ragged (both: Nguyen, Izadi and Lovell, "Modeling Kinect sensor noise for improved 3D reconstruction and tracking",
3DIMPVT 2012). Depth comes in millimetres; there is none along depth edges, at grazing angles and out of range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from roboref_core.geometry.camera import Camera

from sim.rooms.rays import cached_ray_table


@dataclass(frozen=True)
class DepthNoise:
    """Parameters of the sensor.

    Attributes:
        axial: factor on the axial noise of Nguyen et al., 1 = a Kinect's.
        lateral: standard deviation of where a pixel really looks [pixel at 640 columns].
        edge_loss: share of the pixels beside a depth edge that have no depth.
        grazing: no depth where the surface is seen flatter than this [rad from its normal].
        min_range, max_range: of the sensor [m].
        step: quantisation [m].
    """

    axial: float = 1.0
    lateral: float = 0.5
    edge_loss: float = 0.7
    grazing: float = np.radians(82.0)
    min_range: float = 0.4
    max_range: float = 6.0
    step: float = 0.001

    def __call__(self, depth: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
        """(H, W) float32 true depth [m] -> measured depth, 0 = no measurement. ``rng`` decides everything random."""
        camera.check_size(depth.shape, "depth image")
        shape = depth.shape
        shift = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(self.lateral * camera.width / 640)
        axial = rng.standard_normal(shape, dtype=np.float32) * np.float32(self.axial)
        luck = rng.random(shape, dtype=np.float32)
        ray_x, ray_y = cached_ray_table(camera)
        out = np.empty(shape, dtype=np.float32)
        limits = (self.edge_loss, self.grazing, self.min_range, self.max_range, self.step)
        _measure(np.ascontiguousarray(depth, dtype=np.float32), ray_x, ray_y, shift, axial, luck, limits, out)
        return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _measure(depth, ray_x, ray_y, shift, axial, luck, limits, out):
    edge_loss, grazing, nearest, farthest, step = limits
    height, width = depth.shape
    for v in range(height):
        for u in range(width):
            out[v, u] = 0.0
            su = min(max(int(np.floor(u + shift[v, u, 0] + 0.5)), 0), width - 1)
            sv = min(max(int(np.floor(v + shift[v, u, 1] + 0.5)), 0), height - 1)
            z = depth[sv, su]
            if not (z >= nearest and z <= farthest):
                continue
            # A step of more than 4 % between neighbours, against the slope on the other side, is an edge.
            left, right = depth[sv, max(su - 1, 0)], depth[sv, min(su + 1, width - 1)]
            above, below = depth[max(sv - 1, 0), su], depth[min(sv + 1, height - 1), su]
            bend = max(abs(left + right - 2 * z), abs(above + below - 2 * z))
            if (bend > 0.04 * z or min(left, right, above, below) <= 0.0) and luck[v, u] < edge_loss:
                continue
            # Surface normal from the flatter of the two one-sided differences in each direction.
            a = su if su == width - 1 or (su > 0 and abs(left - z) < abs(right - z)) else su + 1
            c = sv if sv == height - 1 or (sv > 0 and abs(above - z) < abs(below - z)) else sv + 1
            b, d = a - 1, c - 1
            za, zb, zc, zd = depth[sv, a], depth[sv, b], depth[c, su], depth[d, su]
            ux, uy, uz = ray_x[sv, a] * za - ray_x[sv, b] * zb, ray_y[sv, a] * za - ray_y[sv, b] * zb, za - zb
            wx, wy, wz = ray_x[c, su] * zc - ray_x[d, su] * zd, ray_y[c, su] * zc - ray_y[d, su] * zd, zc - zd
            nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
            rx, ry = ray_x[sv, su], ray_y[sv, su]
            norm = np.sqrt((nx * nx + ny * ny + nz * nz) * (rx * rx + ry * ry + 1.0))
            angle = 0.0
            if norm > 1e-15:
                angle = np.arccos(min(1.0, abs(nx * rx + ny * ry + nz) / norm))
            if angle > grazing:
                continue
            sigma = 0.0012 + 0.0019 * (z - 0.4) ** 2
            if angle > 1.0472:
                sigma += 0.0001 / np.sqrt(z) * (angle / (1.5708 - angle + 1e-3)) ** 2
            noisy = z + sigma * axial[v, u]
            out[v, u] = np.round(max(noisy, step) / step) * step
