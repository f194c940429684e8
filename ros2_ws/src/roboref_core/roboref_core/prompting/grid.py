"""Visual Grid Coordinate: a grid with labelled coordinates drawn over the picture, and the words that explain it.

The labels are the coordinates that the answer is given in, so the model may read its answer off the picture
(cf. Scaffold, arXiv 2402.12058, and Grid-Augmented Vision, arXiv 2411.18270).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST_LABEL = 6


@dataclass(frozen=True)
class Grid:
    """What to draw.

    Attributes:
        rows: cells from top to bottom.
        columns: cells from left to right.
        spacing: side of a cell [pixel], counted from the top left corner, instead of rows and columns.
        label_size: height of the digits as a fraction of the image's shorter side, at least 6 pixels; 0: none.
        color: RGB of lines and labels.
        opacity: opacity of the lines, in (0, 1]; labels are opaque.
    """

    rows: int = 10
    columns: int = 10
    spacing: int | None = None
    label_size: float = 0.025
    color: tuple[int, int, int] = (255, 255, 0)
    opacity: float = 0.5

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or (self.spacing is not None and self.spacing < 1):
            raise ValueError(
                f"grid needs rows, columns and spacing of at least 1, found {self.rows}, {self.columns}, {self.spacing}"
            )
        if not 0.0 < self.opacity <= 1.0:
            raise ValueError(f"grid opacity must lie in (0, 1], found {self.opacity}")
        if not 0.0 <= self.label_size <= 0.5:
            raise ValueError(f"grid label size must lie in [0, 0.5] of the shorter side, found {self.label_size}")

    def lines(self, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Normalised x of the inner vertical lines and y of the inner horizontal ones."""
        if self.spacing is None:
            return np.arange(1, self.columns) / self.columns, np.arange(1, self.rows) / self.rows
        step = self.spacing
        return np.arange(step, width, step) / width, np.arange(step, height, step) / height

    def draw(self, image: np.ndarray) -> np.ndarray:
        """A copy of (H, W, 3) uint8 RGB with the grid over it.

        x labels stand along the top edge and y labels along the left one. A label that would touch the one
        before it is left out; its line stays.
        """
        height, width = image.shape[:2]
        xs, ys = self.lines(width, height)
        thickness = max(1, round(min(width, height) / 480))
        lines = np.array(image, dtype=np.uint8, order="C")
        for x in xs:
            u = int(x * width)
            cv2.line(lines, (u, 0), (u, height - 1), self.color, thickness)
        for y in ys:
            v = int(y * height)
            cv2.line(lines, (0, v), (width - 1, v), self.color, thickness)
        drawn = cv2.addWeighted(lines, self.opacity, np.ascontiguousarray(image), 1.0 - self.opacity, 0.0)
        if self.label_size > 0:
            self._label(drawn, xs, ys)
        return drawn

    def instruction(self, where: str = "the image") -> str:
        """Tells the model how to read the grid that is drawn over ``where``."""
        return (
            f"A grid is drawn over {where}: the numbers along the top are the x coordinates of its vertical lines, "
            "the numbers along the left are the y coordinates of its horizontal lines, as fractions of its size."
        )

    def _label(self, image: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> None:
        height, width = image.shape[:2]
        digits = max(_SMALLEST_LABEL, round(self.label_size * min(width, height)))
        stroke = max(1, digits // 10)
        scale = cv2.getFontScaleFromHeight(_FONT, digits, stroke)
        margin = max(1, digits // 4)
        # The top left corner belongs to the y labels' column: an x label there would be read as theirs.
        texts = [_coordinate(y) for y in ys]
        column = max((cv2.getTextSize(text, _FONT, scale, stroke)[0][0] for text in texts), default=0) + 3 * margin
        end = column
        for x in xs:
            text = _coordinate(x)
            text_width = cv2.getTextSize(text, _FONT, scale, stroke)[0][0]
            left = round(x * width - text_width / 2)
            if left - margin < end or left + text_width + margin > width:
                continue
            self._write(image, text, (left, margin + digits), scale, stroke, margin)
            end = left + text_width + 3 * margin
        end = 2 * margin + digits
        for y, text in zip(ys, texts, strict=True):
            top = round(y * height - digits / 2)
            if top - margin < end or top + digits + margin > height:
                continue
            self._write(image, text, (margin, top + digits), scale, stroke, margin)
            end = top + digits + 2 * margin

    def _write(
        self, image: np.ndarray, text: str, origin: tuple[int, int], scale: float, stroke: int, margin: int
    ) -> None:
        (width, height), _ = cv2.getTextSize(text, _FONT, scale, stroke)
        u, v = origin
        cv2.rectangle(image, (u - margin, v - height - margin), (u + width + margin, v + margin), (0, 0, 0), cv2.FILLED)
        cv2.putText(image, text, origin, _FONT, scale, self.color, stroke, cv2.LINE_AA)


def _coordinate(value: float) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return text or "0"
