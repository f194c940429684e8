"""Do upright boxes touch? The collision volume of a piece of furniture is the set of its parts' bounding boxes.

Part by part, so that a chair fits under a table and a ball between its legs.
"""

from __future__ import annotations

import numpy as np

# Boxes may touch, and overlap by less than this [m]: things stand on each other.
_TOUCH = 1e-3


def upright_boxes(bounds, T: np.ndarray) -> np.ndarray:
    """Part bounds placed by an upright pose (yaw and translation).

    Args:
        bounds: (lowest, highest) corner pairs in the object's frame [m].
        T: 4x4 T_room_object.

    Returns:
        (N, 8) rows: centre x, y, half extents along the turned axes, cos and sin of yaw, lowest z, highest z.
    """
    rows = []
    for low, high in bounds:
        centre = T[:3, :3] @ ((low + high) / 2) + T[:3, 3]
        half = (high - low) / 2
        rows.append(
            (centre[0], centre[1], half[0], half[1], T[0, 0], T[1, 0], centre[2] - half[2], centre[2] + half[2])
        )
    return np.array(rows)


def any_overlap(first: np.ndarray, second: np.ndarray, gap: float = 0.0) -> bool:
    """Whether any box of one set overlaps any box of the other, or is nearer than ``gap`` [m] sideways."""
    if not len(first) or not len(second):
        return False
    a, b = first[:, None, :], second[None, :, :]
    apart = (a[..., 6] >= b[..., 7] - _TOUCH) | (b[..., 6] >= a[..., 7] - _TOUCH)
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    cos, sin = a[..., 4] * b[..., 4] + a[..., 5] * b[..., 5], np.abs(a[..., 4] * b[..., 5] - a[..., 5] * b[..., 4])
    cos = np.abs(cos)
    slack = gap - _TOUCH
    # Separating axes of two rectangles: the two of the first, then the two of the second.
    for own, other in ((a, b), (b, a)):
        along = np.abs(dx * own[..., 4] + dy * own[..., 5])
        across = np.abs(dy * own[..., 4] - dx * own[..., 5])
        apart = apart | (along >= own[..., 2] + other[..., 2] * cos + other[..., 3] * sin + slack)
        apart = apart | (across >= own[..., 3] + other[..., 2] * sin + other[..., 3] * cos + slack)
    return bool((~apart).any())


def outside(boxes: np.ndarray, size) -> bool:
    """Whether any box leaves the room 0..size (x, y, z)."""
    reach_x = np.abs(boxes[:, 4]) * boxes[:, 2] + np.abs(boxes[:, 5]) * boxes[:, 3]
    reach_y = np.abs(boxes[:, 5]) * boxes[:, 2] + np.abs(boxes[:, 4]) * boxes[:, 3]
    return bool(
        (boxes[:, 0] - reach_x < -_TOUCH).any()
        or (boxes[:, 0] + reach_x > size[0] + _TOUCH).any()
        or (boxes[:, 1] - reach_y < -_TOUCH).any()
        or (boxes[:, 1] + reach_y > size[1] + _TOUCH).any()
        or (boxes[:, 7] > size[2]).any()
    )
