"""Poses between stamps, and none beyond them."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_ros.poses.history import PoseHistory

MS = 1_000_000


def history(*stamps, tolerance=20 * MS, gap=250 * MS, size=4096, clock=0) -> PoseHistory:
    """Entries are their own stamps."""
    poses = PoseHistory(tolerance, gap, 3000 * MS, lambda: clock, size)
    for stamp in stamps:
        poses.add(stamp, stamp)
    return poses


@given(st.lists(st.integers(0, 900).map(lambda ms: ms * MS), max_size=30), st.integers(-50, 950), st.booleans())
def test_the_answer_is_right_or_there_is_none(stamps, ms, final):
    """Entries in any order; the definition by brute force."""
    stamp = ms * MS
    found = history(*stamps).at(stamp, final)
    before = max((s for s in stamps if s <= stamp), default=None)
    after = min((s for s in stamps if s >= stamp), default=None)
    if before is not None and after is not None and after - before <= 250 * MS:
        assert (found.before, found.after) == (before, after)
        assert found.before + found.fraction * (found.after - found.before) == pytest.approx(stamp)
        return
    nearest = min((abs(s - stamp) for s in stamps), default=None)
    if final and nearest is not None and nearest <= 20 * MS:
        assert found.before == found.after and abs(found.before - stamp) == nearest
        assert found.fraction == 0.0
    else:
        assert found is None


def test_a_view_newer_than_the_newest_pose_waits_for_the_next():
    poses = history(0, 100 * MS)
    assert poses.at(110 * MS, final=False) is None
    poses.add(200 * MS, 200 * MS)
    assert poses.at(110 * MS, final=False).fraction == pytest.approx(0.1)


def test_lost_tracking_is_not_bridged():
    assert history(0, 2000 * MS).at(1000 * MS, final=True) is None


def test_a_repeated_stamp_replaces():
    poses = history(5)
    poses.add(5, "again")
    assert poses.at(5, final=False).before == "again"


def test_stamps_going_backwards_forget_what_was():
    poses = history(9000 * MS, 9100 * MS)
    for i in range(3):
        poses.add((100 + i) * MS, f"new {i}")
    assert poses.at(9050 * MS, final=True) is None
    assert poses.at(100 * MS, final=False).before == "new 0"


@pytest.mark.parametrize("away", [-3_600_000 * MS, 3_600_000 * MS])
def test_an_outlier_forgets_nothing(away):
    poses = history(4_000_000 * MS, 4_000_100 * MS)
    poses.add(4_000_150 * MS + away, "outlier")
    poses.add(4_000_200 * MS, 4_000_200 * MS)
    assert poses.at(4_000_150 * MS + away, final=True) is None
    assert poses.at(4_000_150 * MS, final=False).fraction == pytest.approx(0.5)


def test_bounded():
    poses = history(*range(1000), size=100)
    assert poses.at(899, final=False) is None
    assert poses.at(900, final=False).before == 900


def test_what_is_around_a_stamp_is_said():
    assert history().describe(1) == "none has arrived"
    poses = history(1_000_000_000, 2_000_000_000)
    assert poses.describe(2_500_000_000) == "the nearest of 2 lies 0.500 s before it"


def test_clear():
    poses = history(1, 2)
    poses.clear()
    assert poses.at(1, final=True) is None


def test_two_threads():
    poses = history()
    done = threading.Event()

    def write():
        for i in range(20_000):
            poses.add(i, i)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        found = poses.at(10_000, final=False)
        assert found is None or found.before <= 10_000 <= found.after
    thread.join()
    assert poses.at(19_999, final=False).before == 19_999
