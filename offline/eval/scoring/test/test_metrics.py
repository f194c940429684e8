"""Every figure against a loop over samples that follows its definition."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.prompting.prompt import Form
from scipy.stats import mannwhitneyu

from offline.eval.records.answers import Answer
from offline.eval.records.samples import Sample
from offline.eval.scoring.intervals import ClusterBootstrap
from offline.eval.scoring.judge import Judged
from offline.eval.scoring.metrics import FIGURES, RADII, auroc, calibration, columns, figures

SAMPLE = Sample("", "t1", Form.MULTI, (Path("a.png"),), "", ((0.5, 0.5),), "s", Path("a.png"))


@st.composite
def judged(draw, max_size=30):
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["t1", "t2a", "t2b"]),
                st.booleans(),
                st.sampled_from(list(Answer)),
                st.booleans(),
                st.booleans(),
                st.floats(0, 0.2),
                st.integers(0, 3),
            ),
            min_size=1,
            max_size=max_size,
        )
    )
    samples = tuple(replace(SAMPLE, id=str(i), task=row[0], scene=f"s{row[6]}") for i, row in enumerate(rows))
    visible, answer = np.array([r[1] for r in rows]), np.array([int(r[2]) for r in rows])
    pointed = answer == Answer.POINT
    has_mask = visible & np.array([r[3] for r in rows])
    l2 = np.where(visible & pointed, [r[5] for r in rows], np.nan)
    return Judged(
        samples=samples,
        visible=visible,
        answer=answer,
        hit=has_mask & pointed & np.array([r[4] for r in rows]),
        has_mask=has_mask,
        point=np.zeros((len(rows), 2)),
        l2=l2,
        l2_diagonal=l2 / 2,
        p_visible=np.full(len(rows), np.nan),
        area=np.full(len(rows), np.nan),
    )


def brute_force(j: Judged) -> dict[str, float | None]:
    rows = list(zip(j.samples, j.visible, j.answer, j.hit, j.has_mask, j.l2, strict=True))
    seen = [r for r in rows if r[1]]
    unseen = [r for r in rows if not r[1]]
    masked = [r for r in seen if r[4]]
    pointed = [r for r in seen if r[2] == Answer.POINT]
    refused = [r for r in rows if r[2] == Answer.NOT_VISIBLE]

    def share(part, whole):
        return len(part) / len(whole) if whole else None

    def right(sample, visible, answer, hit, *_):
        if not visible:
            return answer == Answer.NOT_VISIBLE
        return answer == Answer.POINT if sample.task == "t2a" else hit

    found = {f"success_at_{r:.2f}": share([x for x in pointed if x[5] <= r], seen) for r in RADII}
    rightly = [r for r in refused if not r[1]]
    recall, precision = share(rightly, unseen), share(rightly, refused)
    rate = share(pointed, seen)
    harmonic = 0.0 if not rightly else 2 * recall * precision / (recall + precision)
    return found | {
        "correct": share([r for r in rows if right(*r)], rows),
        "hit_at_mask": share([r for r in masked if r[3]], masked),
        "l2": sum(r[5] for r in pointed) / len(pointed) if pointed else None,
        "l2_diagonal": sum(r[5] / 2 for r in pointed) / len(pointed) if pointed else None,
        "not_visible_accuracy": (len(rightly) + len(pointed)) / len(rows),
        "not_visible_recall": recall,
        "false_refusals": share([r for r in refused if r[1]], seen),
        "balanced_accuracy": None if recall is None or rate is None else (recall + rate) / 2,
        "f1": None if not unseen else harmonic,
        "unparsable": share(
            [r for r in rows if r[2] == Answer.UNPARSABLE], [r for r in rows if r[2] != Answer.MISSING]
        ),
        "missing": share([r for r in rows if r[2] == Answer.MISSING], rows),
    }


@given(judged())
@settings(max_examples=300)
def test_every_figure_is_its_definition(j):
    scenes = np.unique([s.scene for s in j.samples], return_inverse=True)[1]
    found = figures(columns(j), ClusterBootstrap(scenes, replicates=50))
    expected = brute_force(j)
    assert set(found) == set(FIGURES) == set(expected)
    for name, value in expected.items():
        if value is None:
            assert found[name]["value"] is None, name
            continue
        assert found[name]["value"] == pytest.approx(value, abs=1e-12), name
        if "hits" in found[name]:
            assert found[name]["hits"] / found[name]["total"] == pytest.approx(value)
            low, high = found[name]["wilson"]
            assert low - 1e-12 <= value <= high + 1e-12


@given(judged(), st.data())
def test_a_group_is_what_it_would_be_alone(j, data):
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(j.samples), max_size=len(j.samples))))
    if not chosen.any():
        return
    alone = replace(
        j,
        samples=tuple(s for s, c in zip(j.samples, chosen, strict=True) if c),
        **{
            k: getattr(j, k)[chosen]
            for k in ("visible", "answer", "hit", "has_mask", "point", "l2", "l2_diagonal", "p_visible", "area")
        },
    )
    group = figures(columns(j), ClusterBootstrap(np.zeros(len(chosen), dtype=int)), chosen)
    single = figures(columns(alone), ClusterBootstrap(np.zeros(chosen.sum(), dtype=int)))
    assert {n: f["value"] for n, f in group.items()} == {n: f["value"] for n, f in single.items()}


probabilities = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 0.9, 1.0]), st.booleans()), min_size=1)


@given(probabilities)
def test_auroc_counts_pairs(rows):
    p, positive = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    pairs = [(a, b) for a in p[positive] for b in p[~positive]]
    if not pairs:
        assert auroc(p, positive) is None
        return
    expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert auroc(p, positive) == pytest.approx(expected, abs=1e-12)
    statistic = mannwhitneyu(p[positive], p[~positive]).statistic
    assert auroc(p, positive) == pytest.approx(statistic / len(pairs), abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_calibration_error_is_the_mean_gap_of_the_bins(rows):
    bins = {}
    for p, positive in rows:
        bins.setdefault(min(int(p * 15), 14), []).append((p, positive))
    expected = sum(
        abs(math.fsum(p for p, _ in b) / len(b) - sum(y for _, y in b) / len(b)) * len(b) for b in bins.values()
    ) / len(rows)
    found = calibration(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    assert found["value"] == pytest.approx(expected, abs=1e-12)
    assert sum(count for *_, count in found["bins"]) == len(rows)
