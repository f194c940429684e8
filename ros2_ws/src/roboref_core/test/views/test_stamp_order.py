"""Outliers are told from clock jumps by what follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.views.stamp_order import StampOrder

SECOND = 1_000_000_000
FRAME = SECOND // 30
HOUR = 3600 * SECOND


def feed(order, stamps, start=0, step=FRAME):
    """(stamps accepted, stamps rejected, number of jumps) of messages that arrive in a row."""
    accepted, rejected, jumps = [], [], 0
    for i, stamp in enumerate(stamps):
        done = order.add(stamp, stamp, start + i * step)
        accepted += [item for _, item in done.accepted]
        rejected += done.rejected
        jumps += done.jumped
    return accepted, rejected, jumps


@pytest.mark.parametrize("away", [HOUR, -HOUR, 5 * SECOND, -5 * SECOND])
@pytest.mark.parametrize("images", [1, 2], ids=["one image", "both images of a frame"])
def test_an_outlier_is_rejected(away, images):
    usual = [HOUR + i * FRAME for i in range(20)]
    bad = [HOUR + 10 * FRAME + away + i * 5_000_000 for i in range(images)]
    accepted, rejected, jumps = feed(StampOrder(SECOND), usual[:10] + bad + usual[10:])
    assert (accepted, rejected, jumps) == (usual, bad, 0)


@pytest.mark.parametrize("away", [HOUR, -HOUR])
def test_a_jump_is_recognised_by_what_follows_and_nothing_is_lost(away):
    before = [2 * HOUR + i * FRAME for i in range(10)]
    after = [2 * HOUR + away + i * FRAME for i in range(10)]
    accepted, rejected, jumps = feed(StampOrder(SECOND), before + after)
    assert (accepted, rejected, jumps) == (before + after, [], 1)


def test_a_pause_is_no_jump():
    order = StampOrder(SECOND)
    assert feed(order, [0, FRAME]) == ([0, FRAME], [], 0)
    assert feed(order, [HOUR], start=HOUR - SECOND // 2) == ([HOUR], [], 0)


def test_a_message_that_comes_before_its_clock_waits_for_it():
    order = StampOrder(SECOND)
    order.add(0, "first", 0)
    assert not order.add(5 * SECOND, "second", 0).accepted and order.waiting
    assert not order.poll(0).accepted
    assert order.poll(5 * SECOND).accepted == [(5 * SECOND, "second")]
    assert not order.waiting


def test_after_clearing_any_stamp_is_in_order():
    order = StampOrder(SECOND)
    feed(order, [HOUR, 5])
    assert order.clear() == [5]
    assert feed(order, [7]) == ([7], [], 0)


@given(st.lists(st.integers(0, 10 * SECOND), max_size=40), st.integers(0, 3 * SECOND), st.integers(1, 4))
def test_every_message_is_accepted_or_rejected_or_waits(stamps, window, confirm):
    order = StampOrder(window, confirm)
    accepted, rejected, _ = feed(order, stamps)
    assert sorted(accepted + rejected + order.clear()) == sorted(stamps)
