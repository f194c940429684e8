"""What the published scorers get wrong, mended: one stated scale, every question counts, edges belong to the picture.

An answer is read by the library's parser under the convention that its family states, never by the look of its
numbers. A coordinate outside the picture, a box inside out, or nothing to read make the whole answer unparsable, and
that counts as wrong; so does NOT_VISIBLE, which is counted apart. x = 1 is the last pixel. Each point counts its mask
pixel and each box its share of mask pixels; an answer counts the mean of what it names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from roboref_core.prompting.answer_text import ParsedPlaces
from roboref_core.prompting.read_answer import places_as

from offline.eval.benches.families import Family


def read(text: str, family: Family, size: tuple[int, int], question: str = "") -> ParsedPlaces:
    """The points (x, y) and boxes (x0, y0, x1, y1) of an answer, in [0, 1], by the library's own parser.

    Args:
        size: (width, height) of the picture that pixels refer to.
        question: a scale that it states wins over the family's.
    """
    return places_as(text, family.coordinates, size, question)


def accuracy(targets: Sequence[tuple[float, ...]], mask: np.ndarray) -> float:
    """Mean over points and boxes of what they have in the mask (h, w) bool; 0 for an unparsable answer."""
    if not targets:
        return 0.0
    return float(np.mean([_share(target, mask) for target in targets]))


def _share(target: tuple[float, ...], mask: np.ndarray) -> float:
    size = np.array(mask.shape[::-1])
    first = np.minimum(np.floor(np.array(target[:2]) * size), size - 1).astype(int)
    if len(target) == 2:
        return float(mask[first[1], first[0]])
    # Pixels that the box touches; at least one.
    end = np.maximum(np.minimum(np.ceil(np.array(target[2:]) * size), size).astype(int), first + 1)
    return float(mask[first[1] : end[1], first[0] : end[0]].mean())
