"""Randomness that depends on what is drawn for, never on when or by whom."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def rng_of(*parts: str | int | float) -> np.random.Generator:
    """A generator seeded by a hash of its arguments: (seed, scene, object, ...)."""
    return np.random.default_rng(int.from_bytes(_digest(parts)[:8], "little"))


def fraction_of(*parts: str | int | float) -> float:
    """A number in [0, 1) that is a hash of its arguments."""
    return int.from_bytes(_digest(parts)[:8], "little") / 2**64


def _digest(parts: tuple[str | int | float, ...]) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()
