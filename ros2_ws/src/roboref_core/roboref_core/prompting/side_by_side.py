"""Two views in one picture: A on the left, B on the right, both at the top; and the coordinates between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SideBySide:
    """Layout of A | B without scaling; where one is lower than the other, the rest below it is black.

    Attributes:
        left_size, right_size: (width, height) of A and B [pixel].
    """

    left_size: tuple[int, int]
    right_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole picture [pixel]."""
        return self.left_size[0] + self.right_size[0], max(self.left_size[1], self.right_size[1])

    def compose(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(h_A, w_A, 3) and (h_B, w_B, 3) uint8 -> (H, W, 3) uint8."""
        for image, size, name in ((left, self.left_size, "left"), (right, self.right_size, "right")):
            if image.shape != (size[1], size[0], 3):
                raise ValueError(f"{name} image: expected shape ({size[1]}, {size[0]}, 3), found {image.shape}")
        width, height = self.size
        whole = np.zeros((height, width, 3), dtype=np.uint8)
        whole[: left.shape[0], : left.shape[1]] = left
        whole[: right.shape[0], left.shape[1] :] = right
        return whole

    def left_to_whole(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) in [0, 1] of A -> (..., 2) in [0, 1] of the whole picture."""
        return np.asarray(xy, dtype=np.float64) * self.left_size / self.size

    def right_to_whole(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) in [0, 1] of B -> (..., 2) in [0, 1] of the whole picture."""
        return (np.asarray(xy, dtype=np.float64) * self.right_size + (self.left_size[0], 0)) / self.size

    def whole_to_right(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) in [0, 1] of the whole picture -> coordinates of B: x_R = (x W - w_A) / w_B, y_R = y H / h_B.

        Outside [0, 1] the point is not in B: a miss, not an error.
        """
        return (np.asarray(xy, dtype=np.float64) * self.size - (self.left_size[0], 0)) / self.right_size
