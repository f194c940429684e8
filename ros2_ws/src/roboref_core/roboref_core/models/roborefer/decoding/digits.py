"""The distribution of one decoded number, from the probabilities of its digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from roboref_core.models.roborefer.decoding.grammar import DIGITS
from roboref_core.models.roborefer.decoding.tree import Node

_LEAST_SPREAD = 0.005


@dataclass(frozen=True, eq=False)
class Leaf:
    """A way to write a number.

    Attributes:
        digits: those after "0."; fewer than three if the branch was not followed to its end.
        mass: probability of the branch, given that a number follows.
        node, token, state, rest: the last evaluated node, the token that ends the number, the grammar's
            state after it and the token's text after the number; of whole numbers only.
    """

    digits: str
    mass: float
    node: Node | None = None
    token: int = -1
    state: int = 0
    rest: str = ""

    @property
    def value(self) -> float:
        """Centre of the numbers that begin with these digits: the digits themselves if all are there."""
        rest = DIGITS - len(self.digits)
        return (int(self.digits or 0) + (0.5 if rest else 0.0)) / 10 ** len(self.digits) - (0.5e-3 if rest else 0.0)

    @property
    def variance(self) -> float:
        """Of a uniform distribution over the numbers that round to these digits."""
        return 10.0 ** (-2 * len(self.digits)) / 12


def worth_following(leaves: Sequence[Leaf], branches: Sequence[Leaf], tolerance: float) -> list[int]:
    """Indices of the branches whose further digits the variance needs, most needed first.

    A branch that is not followed counts as uniform over its numbers. Its true mean may be off its centre by about their
    spread s, which changes the variance by mass * (2 |centre - mean| s + s^2). Branches are followed until the
    root-sum-square of what the others may change is at most ``tolerance`` of the variance that is there anyway: that
    between branches, and at least that of a spread of 0.005.

    Args:
        leaves: what is settled.
        branches: what could be followed.
    """
    everything = [*leaves, *branches]
    masses = np.array([leaf.mass for leaf in everything])
    values = np.array([leaf.value for leaf in everything])
    variances = np.array([leaf.variance for leaf in everything])
    total = masses.sum()
    mean = masses @ values / total
    own = slice(len(leaves), None)
    settled = np.where(np.arange(len(everything)) < len(leaves), variances, 0.0)
    variance = max(masses @ (settled + (values - mean) ** 2) / total, _LEAST_SPREAD**2)
    doubts = masses[own] / total * (2 * np.abs(values[own] - mean) * np.sqrt(variances[own]) + variances[own])
    order = np.argsort(-doubts, kind="stable")
    # What remains open if the first k are followed.
    open_ = np.sqrt(np.append(np.cumsum(doubts[order][::-1] ** 2)[::-1], 0.0))
    return order[: int(np.argmax(open_ <= tolerance * variance))].tolist()


class Number:
    """A number that was decoded, and what else it might have been.

    Args:
        chosen: the leaf of the greedy branch.
        leaves: all branches; their masses sum to 1.
    """

    def __init__(self, chosen: Leaf, leaves: list[Leaf]):
        self.chosen = chosen
        self.leaves = leaves
        self._values = np.array([leaf.value for leaf in leaves])
        self._masses = np.array([leaf.mass for leaf in leaves])
        self._variances = np.array([leaf.variance for leaf in leaves])

    @classmethod
    def unresolved(cls, digits: str) -> Number:
        """A number that came in one token with the end of another: what else it might have been was not asked.

        It counts as anything from 0 to 1. Tokenizers of Qwen2 have no such tokens.
        """
        return cls(Leaf(digits, 1.0), [Leaf("", 1.0)])

    def probability(self, leaf: Leaf) -> float:
        """Of exactly this leaf's digits, however they are split into tokens; a branch not followed counts evenly."""
        shares = (
            other.mass / 10 ** (DIGITS - len(other.digits))
            for other in self.leaves
            if leaf.digits.startswith(other.digits)
        )
        return float(sum(shares))

    def modes(self, count: int, separation: float) -> list[Leaf]:
        """Up to ``count`` whole numbers, the chosen one first, then by mass, at least ``separation`` apart."""
        modes = [self.chosen]
        for leaf in sorted(self.leaves, key=lambda leaf: -leaf.mass):
            if len(modes) == count:
                break
            if leaf.node is not None and all(abs(leaf.value - other.value) >= separation for other in modes):
                modes.append(leaf)
        return modes

    def variance_around(self, mode: Leaf, modes: list[Leaf]) -> float:
        """Variance of the part of the distribution that is nearer to ``mode`` than to any other of ``modes``."""
        distances = np.abs(self._values[:, None] - np.array([[other.value for other in modes]]))
        masses = np.where(distances.argmin(1) == modes.index(mode), self._masses, 0.0)
        if masses.sum() <= 0:
            return mode.variance
        masses = masses / masses.sum()
        mean = masses @ self._values
        return float(masses @ (self._variances + (self._values - mean) ** 2))
