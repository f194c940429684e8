"""What cameras do to pictures: exposure, colour cast, blur and noise, drawn for every batch."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Diet:
    """How pictures are disturbed; the defaults leave them as they are rendered.

    Attributes:
        share: of views whose pictures are disturbed.
        exposure: largest change of brightness, as a factor: 0.4 is from 1 / 1.4 to 1.4.
        cast: the same of each colour by itself.
        noise: largest standard deviation of the noise [grey levels].
        blur: largest standard deviation of the blur [pixel of a tile].
    """

    share: float = 0.0
    exposure: float = 0.4
    cast: float = 0.12
    noise: float = 10.0
    blur: float = 0.8

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"share: expected 0 to 1, found {self.share}")
        if min(self.exposure, self.cast, self.noise, self.blur) < 0:
            raise ValueError("exposure, cast, noise and blur must not be negative")

    def lens(self, rng: np.random.Generator) -> Lens | None:
        """The disturbance of one view, which all pictures of it share; None where there is none."""
        if rng.random() >= self.share:
            return None
        exposure = (1 + self.exposure) ** rng.uniform(-1, 1)
        gain = exposure * (1 + self.cast) ** rng.uniform(-1, 1, 3)
        return Lens(tuple(gain.tolist()), float(rng.uniform(0, self.noise)), float(rng.uniform(0, self.blur)))


@dataclass(frozen=True)
class Lens:
    """One camera: gain of each colour, noise [grey levels] and blur [pixel], both standard deviations."""

    gain: tuple[float, ...]
    noise: float
    blur: float

    def __call__(self, tile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 as this camera would have taken it; each call draws its own noise."""
        found = tile.astype(np.float32) * np.array(self.gain, dtype=np.float32)
        if self.blur > 0:
            found = np.asarray(cv2.GaussianBlur(found, (0, 0), max(self.blur, 0.05)), dtype=np.float32)
        found = found + np.float32(self.noise) * rng.standard_normal(found.shape, dtype=np.float32)
        return np.clip(np.round(found), 0, 255).astype(np.uint8)


class Lenses:
    """The cameras of one batch: one for each view."""

    def __init__(self, diet: Diet, rng: np.random.Generator):
        self._diet, self._rng = diet, rng
        self._of: dict[tuple[int, int], Lens | None] = {}

    def __call__(self, view: tuple[int, int], tiles: list[np.ndarray]) -> list[np.ndarray]:
        """Tiles of a view (chunk, number) as its camera shows them."""
        if not self._diet.share:
            return tiles
        if view not in self._of:
            self._of[view] = self._diet.lens(self._rng)
        lens = self._of[view]
        return tiles if lens is None else [lens(tile, self._rng) for tile in tiles]
