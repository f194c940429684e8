"""The distribution of a decoded number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.models.roborefer.decoding.digits import Leaf, Number


class TestNumber:
    def test_a_number_that_came_with_other_text_could_be_any(self):
        number = Number.unresolved("123")
        assert number.chosen.value == pytest.approx(0.123)
        assert number.variance_around(number.chosen, [number.chosen]) == pytest.approx(1 / 12)
        assert number.probability(number.chosen) == pytest.approx(1e-3)

    def test_neighbours_across_a_carry_are_near(self):
        """0.299 and 0.300 differ in every digit; taken digit by digit their spread would be hundred times too large."""
        node = object()
        low, high = Leaf("299", 0.5, node), Leaf("300", 0.5, node)
        number = Number(low, [low, high])
        assert math.sqrt(number.variance_around(low, [low])) == pytest.approx(0.5e-3, rel=0.3)

    @given(st.text("0123456789", min_size=0, max_size=3))
    def test_a_leaf_is_the_uniform_distribution_over_its_numbers(self, digits):
        numbers = np.array([n for n in range(1000) if f"{n:03}".startswith(digits)]) / 1000
        leaf = Leaf(digits, 1.0)
        assert leaf.value == pytest.approx(numbers.mean())
        # Each number stands for the interval that rounds to it.
        assert leaf.variance == pytest.approx(numbers.var() + 1e-6 / 12)
