from __future__ import annotations

import cv2
import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path):
    """With mask.png: the object covers (8, 8) to (12, 12)."""
    mask = np.zeros((40, 60), np.uint8)
    mask[8:13, 8:13] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    return tmp_path
