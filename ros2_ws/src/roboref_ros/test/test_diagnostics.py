"""Levels that rise at once and fall when it has been calm."""

from __future__ import annotations

import pytest

pytest.importorskip("diagnostic_msgs", reason="ROS 2 is not in the environment: source setup/env.sh")

from roboref_ros.services.diagnostics import ERROR, OK, WARN, Hysteresis, status, worst


def test_levels_have_hysteresis():
    level = Hysteresis(calm=3).level
    reported = [OK, ERROR, OK, OK, ERROR, OK, WARN, OK, OK, OK, OK]
    shown = [OK, ERROR, ERROR, ERROR, ERROR, ERROR, ERROR, OK, OK, OK, OK]
    assert [level(each) for each in reported] == shown


def test_values_are_for_a_person():
    state = status(WARN, "a\ud800b", {"rate [Hz]": 29.97123, "delay [s]": float("nan"), "pairs": 3})
    assert [value.value for value in state.values] == ["29.97", "unknown", "3"]
    assert state.message == "a?b"


def test_the_worst_speaks_for_all():
    states = [status(level, text, {}) for level, text in ((OK, "a"), (ERROR, "b"), (WARN, "c"), (ERROR, "d"))]
    assert worst(states).message == "b"
