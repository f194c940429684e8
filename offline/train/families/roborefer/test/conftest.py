from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

RECORDINGS = Path(__file__).parents[5] / "ros2_ws/src/roboref_core/test/roborefer/fixtures"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Recordings of the reference, and the checkpoints that they ran on."""
    return RECORDINGS


@pytest.fixture(scope="session")
def pictures() -> Callable[..., np.ndarray]:
    """Makes colour pictures that are told apart by a number: (number, width, height) -> (H, W, 3) uint8."""

    def picture(number: int, width: int = 120, height: int = 90) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return picture
