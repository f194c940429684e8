"""Which frames are worth opening: far enough apart, held still, sharp."""

from __future__ import annotations

import cv2
import numpy as np

from offline.data_engine.sources import BadFrame, Scene

_SHARPNESS_WIDTH = 640
_REDUCED = (
    cv2.IMREAD_GRAYSCALE,
    cv2.IMREAD_REDUCED_GRAYSCALE_2,
    cv2.IMREAD_REDUCED_GRAYSCALE_4,
    cv2.IMREAD_REDUCED_GRAYSCALE_8,
)


def motion(poses: np.ndarray) -> np.ndarray:
    """(N,) how fast the camera moves at each frame: its larger step to a neighbour, rotation [rad] + translation [m].

    One metre away, both smear a picture alike. Infinite where a pose, or both its neighbours, are lost.
    """
    step = np.full(len(poses) + 1, np.inf)
    for i in range(1, len(poses)):
        if np.isfinite(poses[i - 1 : i + 1]).all():
            step[i] = _rotation(poses[i - 1], poses[i]) + np.linalg.norm(poses[i, :3, 3] - poses[i - 1, :3, 3])
    before, after = step[:-1], step[1:]
    moved = np.where(np.isinf(before), after, np.where(np.isinf(after), before, np.maximum(before, after)))
    return np.where(np.isfinite(poses).all(axis=(1, 2)), moved, np.inf)


def keyframes(poses: np.ndarray, translation: float = 0.1, rotation: float = 0.1) -> np.ndarray:
    """Positions of frames that see something new, the stillest of each stretch.

    A stretch ends when the camera has moved ``translation`` [m] or turned ``rotation`` [rad] from its first
    frame. Frames without a pose are in no stretch. Ascending (K,) int64.
    """
    speed = motion(poses)
    chosen, best, start = [], -1, None
    for i in range(len(poses)):
        if not np.isfinite(poses[i]).all():
            continue
        new = start is None or (
            np.linalg.norm(poses[i, :3, 3] - start[:3, 3]) >= translation or _rotation(start, poses[i]) >= rotation
        )
        if new:
            if best >= 0:
                chosen.append(best)
            start, best = poses[i], i
        elif speed[i] < speed[best]:
            best = i
    if best >= 0:
        chosen.append(best)
    return np.array(chosen, dtype=np.int64)


def sharpness(image: np.ndarray) -> float:
    """How sharp a picture is, in [0, 1]: the share of its gradients that a further blur takes away.

    After Crete et al., "The blur effect" (2007): a sharp picture loses much, a blurred one little. Unlike the
    variance of the Laplacian it does not depend on how much there is to see.

    Args:
        image: (H, W, 3) RGB or (H, W) grey, uint8; judged at about 640 pixels width.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if grey.shape[1] > 1.2 * _SHARPNESS_WIDTH:
        height = round(grey.shape[0] * _SHARPNESS_WIDTH / grey.shape[1])
        grey = cv2.resize(grey, (_SHARPNESS_WIDTH, height), interpolation=cv2.INTER_AREA)
    lost = []
    # Along columns every other column, along rows every other row: neighbours say the same.
    for axis, lines, size in ((0, grey[:, ::2], (1, 9)), (1, grey[::2], (9, 1))):
        part = lines.astype(np.float32)
        gradient = np.abs(np.diff(part, axis=axis))
        blurred = np.abs(np.diff(cv2.blur(part, size), axis=axis))
        total = float(gradient.sum())
        lost.append(float(np.maximum(gradient - blurred, 0).sum()) / total if total > 0 else 0.0)
    return min(lost)


def grey_picture(scene: Scene, i: int) -> np.ndarray:
    """(H, W) uint8 of a frame. A JPEG is decoded at half or a quarter of its size: that is all that sharpness takes.

    Raises BadFrame if it cannot be decoded.
    """
    encoded = scene.color_encoded(i)
    if encoded is None:
        return cv2.cvtColor(scene.color(i), cv2.COLOR_RGB2GRAY)
    halvings = int(np.log2(max(1.0, scene.color_camera.width / _SHARPNESS_WIDTH)))
    grey = cv2.imdecode(np.frombuffer(encoded.data, np.uint8), _REDUCED[min(halvings, 3)])
    if grey is None:
        raise BadFrame(f"scene {scene.scene_id} frame {scene.frame_ids[i]}: colour image does not decode")
    return grey


def _rotation(T_a: np.ndarray, T_b: np.ndarray) -> float:
    trace = np.einsum("ij,ij->", T_a[:3, :3], T_b[:3, :3])
    return float(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
