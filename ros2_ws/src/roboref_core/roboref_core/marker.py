"""The mark drawn on a reference view. Data building, training, evaluation and the robot draw the same one."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SHIFT = 4  # cv2 draws at 1/2**4 pixel
_SMALLEST_RADIUS = 5.0  # a smaller ring hides what it marks


@dataclass(frozen=True)
class Marker:
    """A ring around a point, or a frame around a box, with a white rim so that it shows on every background.

    Attributes:
        color: RGB.
        color_name: how prompts call that colour.
        radius: of the ring, as a fraction of the image's diagonal; never under 5 pixels.
        thickness: of the line, as a fraction of the diagonal; never under 1 pixel.
    """

    color: tuple[int, int, int] = (255, 0, 0)
    color_name: str = "red"
    radius: float = 0.025
    thickness: float = 0.004

    def describe(self, box: bool = False) -> str:
        """What prompts call it: "red circle" or "red box"."""
        return f"{self.color_name} {'box' if box else 'circle'}"

    def draw(
        self,
        image: np.ndarray,
        pixel: tuple[float, float],
        box: tuple[float, float, float, float] | None = None,
        label: str = "",
    ) -> np.ndarray:
        """A marked copy of the image.

        Args:
            image: (H, W, 3) uint8 RGB.
            pixel: (u, v) of the marked point; not drawn if there is a box.
            box: (u_min, v_min, u_max, v_max), or None.
            label: short name written beside the mark.
        """
        marked = np.array(image, dtype=np.uint8, order="C")
        diagonal = float(np.hypot(*marked.shape[:2]))
        line = max(1, round(self.thickness * diagonal))
        for color, thickness in (((255, 255, 255), line + 2 * max(1, line // 2)), (self.color, line)):
            if box is None:
                radius = max(_SMALLEST_RADIUS, self.radius * diagonal)
                cv2.circle(marked, _fixed(pixel), _fixed((radius,))[0], color, thickness, cv2.LINE_AA, _SHIFT)
            else:
                cv2.rectangle(marked, _fixed(box[:2]), _fixed(box[2:]), color, thickness, cv2.LINE_AA, _SHIFT)
        if label:
            self._write(marked, pixel, box, label, diagonal)
        return marked

    def _write(self, marked: np.ndarray, pixel, box, label: str, diagonal: float) -> None:
        font, line = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(self.thickness * diagonal / 2))
        scale = cv2.getFontScaleFromHeight(font, max(8, round(0.025 * diagonal)), line)
        (width, height), _ = cv2.getTextSize(label, font, scale, line)
        gap = max(_SMALLEST_RADIUS, self.radius * diagonal) + 2 * line
        right, top = (pixel[0] + gap, pixel[1] - gap) if box is None else (box[0], box[1] - 2 * line)
        # Beside the mark where there is room, else inside the image's edge.
        u = int(np.clip(right, line, max(line, marked.shape[1] - width - line)))
        v = int(np.clip(top, height + line, max(height + line, marked.shape[0] - line)))
        cv2.putText(marked, label, (u, v), font, scale, (255, 255, 255), 3 * line, cv2.LINE_AA)
        cv2.putText(marked, label, (u, v), font, scale, self.color, line, cv2.LINE_AA)


def _fixed(values) -> tuple[int, ...]:
    return tuple(round(float(value) * 2**_SHIFT) for value in values)
