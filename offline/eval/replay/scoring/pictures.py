"""The pictures of a replay's report: reference view with its mark, query view with truth and answer."""

from __future__ import annotations

import base64

import cv2
import numpy as np

PICTURE_WIDTH, _JPEG_QUALITY = 420, 82
MARK, TRUE, PREDICTED, OUTLINE = (255, 196, 0), (46, 204, 64), (255, 0, 170), (90, 200, 255)


def reference_picture(color: np.ndarray, mark: tuple[float, float]) -> np.ndarray:
    """(H, W, 3) uint8 RGB with a ring and cross at the mark (u, v)."""
    picture = color.copy()
    _ring(picture, mark, MARK)
    _cross(picture, mark, MARK)
    return picture


def query_picture(
    color: np.ndarray,
    true_pixel: tuple[float, float] | None,
    predicted: tuple[float, float] | None,
    mask: np.ndarray | None,
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: green ring = true point, pink cross = the answer, thin line = the object's outline."""
    picture = color.copy()
    if mask is not None:
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, OUTLINE, max(picture.shape[1] // 500, 1), cv2.LINE_AA)
    if true_pixel is not None:
        _ring(picture, true_pixel, TRUE)
    if predicted is not None:
        _cross(picture, predicted, PREDICTED)
    return picture


def _ring(picture: np.ndarray, pixel, colour) -> None:
    if _drawable(picture, pixel):
        centre, radius = _rounded(pixel), _size(picture)
        cv2.circle(picture, centre, radius, (0, 0, 0), 4, cv2.LINE_AA)
        cv2.circle(picture, centre, radius, colour, 2, cv2.LINE_AA)


def _cross(picture: np.ndarray, pixel, colour) -> None:
    if _drawable(picture, pixel):
        centre, size = _rounded(pixel), _size(picture) * 2
        cv2.drawMarker(picture, centre, (0, 0, 0), cv2.MARKER_TILTED_CROSS, size, 5, cv2.LINE_AA)
        cv2.drawMarker(picture, centre, colour, cv2.MARKER_TILTED_CROSS, size, 2, cv2.LINE_AA)


def _drawable(picture: np.ndarray, pixel) -> bool:
    # Points far outside would overflow OpenCV's fixed-point coordinates.
    return bool(np.isfinite(pixel).all() and (np.abs(pixel) < 10 * max(picture.shape[:2])).all())


def _rounded(pixel) -> tuple[int, int]:
    return round(pixel[0]), round(pixel[1])


def _size(picture: np.ndarray) -> int:
    return max(picture.shape[1] // 64, 5)


def embedded(picture: np.ndarray, width: int = PICTURE_WIDTH) -> str:
    """An RGB picture, ``width`` pixels wide, as the source of an HTML image."""
    height = round(picture.shape[0] * width / picture.shape[1])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
