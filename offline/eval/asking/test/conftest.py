"""A scene of known geometry for what reads scenes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from roboref_core.geometry.camera import Camera


@pytest.fixture
def wall(tmp_path):
    """A ScanNet-style export of a wall 2 m ahead, seen from three places, and questions about points on it."""
    camera = Camera(80, 60, 70.0, 70.0, 39.5, 29.5)
    root = tmp_path / "scenes" / "scene0000_00"
    for folder in ("color", "depth", "pose", "intrinsic"):
        (root / folder).mkdir(parents=True)
    K = np.eye(4)
    K[:3, :3] = camera.matrix
    for name in ("intrinsic_color.txt", "intrinsic_depth.txt"):
        np.savetxt(root / "intrinsic" / name, K)
    places = ((0.0, 0.0), (0.4, -0.1), (5.0, 0.0))
    poses = []
    for i, (x, y) in enumerate(places):
        pose = np.eye(4)
        pose[:2, 3] = x, y
        poses.append(pose)
        cv2.imwrite(str(root / "color" / f"{i}.jpg"), np.full((60, 80, 3), 100, np.uint8))
        depth = np.full((60, 80), 2000, np.uint16)
        if i == 1:
            depth[:, 70:] = 800  # something stands in front of the right edge
        cv2.imwrite(str(root / "depth" / f"{i}.png"), depth)
        np.savetxt(root / "pose" / f"{i}.txt", pose)
    return root, camera, poses
