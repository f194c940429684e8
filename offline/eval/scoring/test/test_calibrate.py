"""Calibration from predictions: log-odds as the model has them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from offline.eval.records.predictions import collect
from offline.eval.scoring.calibrate import Calibrate, log_odds


def line(sample, p, calibrated=False):
    return {
        "kind": "prediction",
        "id": sample,
        "key": sample,
        "asked": "",
        "run": "r",
        "text": "",
        "points": None,
        "visible": None,
        "p_visible": p,
        "p_visible_calibrated": calibrated,
    }


SAMPLES = [SimpleNamespace(id=name, truth=truth) for name, truth in (("a", ((0.5, 0.5),)), ("b", None), ("c", None))]


def test_log_odds_of_answered_samples():
    found = dict(zip("ab", log_odds(collect([line("a", 0.5), line("b", 0.0)], "m"), SAMPLES), strict=True))
    assert found["a"] == (pytest.approx(0.0), True)
    assert found["b"] == (pytest.approx(-50.0), False)


def test_calibrated_predictions_are_refused():
    with pytest.raises(ValueError, match="sample a: p_visible went through"):
        list(log_odds(collect([line("a", 0.5, True)], "m"), SAMPLES))


def test_files_must_pair():
    with pytest.raises(ValueError, match="1 predictions files for 2 data files"):
        Calibrate((Path("a"),), (Path("b"), Path("c")), Path("."))()
