"""The mark drawn on a reference view. Data building, training, evaluation and the robot draw the same one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SHIFT = 4  # cv2 draws at 1/2**4 pixel
_RIM = (255, 255, 255)
_SMALLEST_RADIUS = 5.0  # a smaller ring hides what it marks


@dataclass(frozen=True)
class Marker:
    """A ring around a point, or a frame around a box, with a white rim so that it shows on every background.

    Attributes:
        color: RGB.
        color_name: how prompts call that colour.
        radius: radius of the ring, as a fraction of the image's diagonal; never under 5 pixels.
        thickness: thickness of the line, as a fraction of the diagonal; never under 1 pixel.
        fine: diagonal, in pixels, from which lines are drawn in whole pixels. On much smaller pictures these are too
            coarse to look alike: the mark is drawn as on a picture so large, which is then made smaller.
    """

    color: tuple[int, int, int] = (255, 0, 0)
    color_name: str = "red"
    radius: float = 0.025
    thickness: float = 0.004
    fine: float = 800.0

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
        scale = max(1, round(self.fine / diagonal))
        line = max(scale, round(self.thickness * scale * diagonal))
        for color, thickness in ((_RIM, line + 2 * max(1, line // 2)), (self.color, line)):
            if scale == 1:
                self._outline(marked, pixel, box, color, thickness, scale)
            else:
                canvas = np.zeros([scale * side for side in marked.shape[:2]], dtype=np.uint8)
                self._outline(canvas, pixel, box, (255,), thickness, scale)
                share = cv2.resize(canvas, marked.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None] / 255
                marked = np.rint(marked + share * (np.array(color) - marked)).astype(np.uint8)
        if label:
            self._write(marked, pixel, box, label, diagonal)
        return marked

    def _outline(
        self,
        canvas: np.ndarray,
        pixel: tuple[float, float],
        box: tuple[float, float, float, float] | None,
        color: tuple[int, ...],
        thickness: int,
        scale: int,
    ) -> None:
        """Ring or frame on a canvas ``scale`` times as large as the picture that ``pixel`` and ``box`` are of."""
        if box is None:
            radius = max(scale * _SMALLEST_RADIUS, self.radius * float(np.hypot(*canvas.shape[:2])))
            cv2.circle(canvas, _fixed(pixel, scale), round(radius * 2**_SHIFT), color, thickness, cv2.LINE_AA, _SHIFT)
        else:
            corners = _fixed(box[:2], scale), _fixed(box[2:], scale)
            cv2.rectangle(canvas, *corners, color, thickness, cv2.LINE_AA, _SHIFT)

    def _write(
        self,
        marked: np.ndarray,
        pixel: tuple[float, float],
        box: tuple[float, float, float, float] | None,
        label: str,
        diagonal: float,
    ) -> None:
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


def _fixed(pixel: tuple[float, float], scale: int) -> tuple[int, ...]:
    """A place in the picture, ``scale`` times as large, as cv2 takes it."""
    return tuple(round(((float(value) + 0.5) * scale - 0.5) * 2**_SHIFT) for value in pixel)
