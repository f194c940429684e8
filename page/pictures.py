"""Pictures for the browser: JPEG of colour and depth, and what is drawn over them as SVG."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, transform

_QUALITY = 80
MARK, FOUND, REMEMBERED = "#ffd400", "#ff2d87", "#ff9a1f"
# Standard deviations on each side that hold 95 % of a 2D normal distribution.
_SIGMAS_95 = 2.45


def jpeg(rgb: np.ndarray, width: int | None = None) -> bytes:
    """(H, W, 3) uint8 RGB as JPEG, made narrower to ``width`` [pixel] if that is less."""
    if width is not None and rgb.shape[1] > width:
        rgb = cv2.resize(rgb, (width, round(rgb.shape[0] * width / rgb.shape[1])), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def data_url(image: bytes) -> str:
    """A JPEG as the address of itself."""
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()


def depth_colours(depth: np.ndarray) -> np.ndarray:
    """(H, W) depth [m] as (H, W, 3) uint8 RGB: red near, blue from 5 m on; black where nothing was measured."""
    valid = np.isfinite(depth) & (depth > 0)
    nearness = np.where(valid, 255 - np.clip(np.nan_to_num(depth) / 5.0, 0, 1) * 255, 0).astype(np.uint8)
    return cv2.applyColorMap(nearness, cv2.COLORMAP_TURBO)[..., ::-1] * valid[..., None]


def point_svg(pixel: tuple[float, float], color: str, size: tuple[int, int], label: str = "") -> str:
    """A ring with a dot at a pixel, as large on every size of picture (width, height)."""
    u, v = pixel
    radius = 0.018 * max(size)

    def circle(r: float, style: str) -> str:
        return f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{r:.1f}" {style}/>'

    outline = circle(radius, f'fill="none" stroke="black" stroke-width="{radius / 2:.1f}"')
    ring = circle(radius, f'fill="none" stroke="{color}" stroke-width="{radius / 4:.1f}"')
    return outline + ring + circle(radius / 6, f'fill="{color}"') + text_svg((u, v), label, radius)


def box_svg(box: tuple[float, float, float, float], color: str, size: tuple[int, int], scale: float = 1.0) -> str:
    """A box in a picture that is shown ``scale`` times smaller, at (width, height) ``size``."""
    u0, v0, u1, v1 = (edge / scale for edge in box)
    return (
        f'<rect x="{u0:.1f}" y="{v0:.1f}" width="{u1 - u0:.1f}" height="{v1 - v0:.1f}" fill="none" stroke="{color}" '
        f'stroke-width="{0.005 * max(size):.1f}"/>'
    )


def text_svg(pixel: tuple[float, float], text: str, radius: float) -> str:
    if not text:
        return ""
    return (
        f'<text x="{pixel[0] + 1.6 * radius:.1f}" y="{pixel[1]:.1f}" font-size="{1.8 * radius:.1f}" fill="white" '
        f'stroke="black" stroke-width="{radius / 8:.2f}" paint-order="stroke" font-family="sans-serif">'
        f"{html.escape(text)}</text>"
    )


def ellipse_svg(position: np.ndarray, covariance: np.ndarray, camera: Camera, T_world_camera: np.ndarray) -> str:
    """The 95 % ellipse of a place in a picture, linearised; empty if it lies behind the camera or is not finite.

    Args:
        position, covariance: (3,) [m] and (3, 3) [m^2] in the frame of ``T_world_camera``.
    """
    point = transform(inverse(T_world_camera), position)
    if not np.isfinite(covariance).all() or not np.isfinite(point).all() or point[2] <= 0:
        return ""
    steps = 1e-4 * np.vstack([np.zeros(3), np.eye(3)])
    pixels = camera.project(point + steps)
    jacobian = (pixels[1:] - pixels[0]).T / 1e-4
    R = T_world_camera[:3, :3]
    variances, axes = np.linalg.eigh(jacobian @ R.T @ covariance @ R @ jacobian.T)
    minor, major = _SIGMAS_95 * np.sqrt(np.maximum(variances, 0))
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
    u, v = pixels[0]
    return (
        f'<ellipse cx="{u:.1f}" cy="{v:.1f}" rx="{max(major, 1):.1f}" ry="{max(minor, 1):.1f}" fill="{FOUND}" '
        f'fill-opacity="0.2" stroke="{FOUND}" transform="rotate({angle:.1f} {u:.1f} {v:.1f})"/>'
    )


def targets_svg(
    targets: Iterable[tuple[tuple[float, float], np.ndarray | None, np.ndarray | None, str]],
    camera: Camera,
    T_world_camera: np.ndarray | None,
) -> str:
    """Targets over the view that was searched: pixel, position, covariance (both or none), label."""
    drawn = []
    for pixel, position, covariance, label in targets:
        if position is not None and covariance is not None and T_world_camera is not None:
            drawn.append(ellipse_svg(position, covariance, camera, T_world_camera))
        drawn.append(point_svg(pixel, FOUND, (camera.width, camera.height), label))
    return "".join(drawn)
