"""A loss curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from offline.files import write_picture

_SIZE, _LEFT, _BOTTOM, _TOP, _RIGHT = (1000, 500), 80, 50, 30, 20
_INK, _FAINT, _LINE, _MEAN = (40, 40, 40), (225, 225, 225), (170, 190, 225), (30, 80, 180)


def draw_curve(path: Path, steps: Sequence[int], losses: Sequence[float], borders: Mapping[int, str]) -> None:
    """Writes a PNG: each loss, their running mean over a twentieth of the run, and the ends of stages by name."""
    values = np.array(losses, dtype=np.float64)
    x, shown = np.array(steps)[np.isfinite(values)], values[np.isfinite(values)]
    if len(shown) == 0:
        raise ValueError(f"{path}: no finite loss to draw")
    low, high = min(0.0, float(shown.min())), max(float(shown.max()), 1e-6)
    last = max(int(x.max()), 1)
    width, height = _SIZE
    image = np.full((height, width, 3), 255, np.uint8)

    def place(step: float, loss: float) -> tuple[int, int]:
        u = _LEFT + (width - _LEFT - _RIGHT) * step / last
        v = height - _BOTTOM - (height - _BOTTOM - _TOP) * (loss - low) / (high - low)
        return round(u), round(v)

    for loss in np.linspace(low, high, 6):
        cv2.line(image, place(0, loss), place(last, loss), _FAINT, 1)
        _write(image, f"{loss:.3g}", (8, place(0, loss)[1] + 5))
    for step in np.unique(np.linspace(0, last, 6).round()):
        _write(image, f"{step:.0f}", (place(step, low)[0] - 10, height - _BOTTOM + 22))
    for step, name in borders.items():
        if step <= last:
            cv2.line(image, place(step, low), place(step, high), _INK, 1, cv2.LINE_AA)
            _write(image, name, (max(_LEFT, place(step, high)[0] - 9 * len(name)), _TOP - 10))
    _curve(image, [place(*point) for point in zip(x, shown, strict=True)], _LINE, 1)
    window = max(1, len(shown) // 20)
    sums = np.cumsum(np.insert(shown, 0, 0.0))
    means = (sums[window:] - sums[:-window]) / window
    _curve(image, [place(*point) for point in zip(x[window - 1 :], means, strict=True)], _MEAN, 2)
    _write(image, "step", (width // 2, height - 8))
    _write(image, "loss", (8, 16))
    write_picture(path, image)


def _curve(image: np.ndarray, points: list[tuple[int, int]], colour: tuple[int, int, int], thickness: int) -> None:
    cv2.polylines(image, [np.array(points, np.int32)], False, colour, thickness, cv2.LINE_AA)


def _write(image: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
