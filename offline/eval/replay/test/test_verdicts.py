"""Likelihoods of what geometry says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from roboref_core.views.visibility import Visibility

from offline.eval.records.replays import Question, Truth
from offline.eval.replay.verdicts import CASES, case_of, likelihoods

SEEN = Truth(Visibility.VISIBLE, True, (0.0, 0.0, 1.0), (3.0, 4.0))
ASKED = Question("q", "the lamp", 1, "lamp", 0, 9, (1.0, 2.0), SEEN, "unchanged")


def test_likelihoods_are_shares_of_each_case_and_none_is_zero():
    counts = Counter({("UNCHANGED", "here"): 90, ("GONE", "here"): 5, ("GONE", "absent"): 5})
    table = likelihoods(counts, CASES)
    for case in CASES:
        assert sum(row[case] for row in table.values()) == pytest.approx(1.0, abs=1e-3)
        assert all(row[case] > 0 for row in table.values())
    assert table["UNCHANGED"]["here"] == pytest.approx(90.5 / 96, abs=1e-4)


@pytest.mark.parametrize(
    ("fate", "truth", "case"),
    [
        ("unchanged", SEEN, "here"),
        ("moved", SEEN, "elsewhere"),
        ("moved", replace(SEEN, visibility=Visibility.OCCLUDED), "absent"),
        ("removed", replace(SEEN, visibility=Visibility.CONFLICT), "absent"),
        ("unchanged", replace(SEEN, decidable=False), None),
        ("unchanged", replace(SEEN, visibility=Visibility.UNKNOWN, decidable=False), "here"),
    ],
)
def test_every_truth_is_one_case_or_open(fate, truth, case):
    assert case_of(replace(ASKED, fate=fate, truth=truth)) == case
