"""Pairing by stamp against brute force over whole sequences."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_ros.intake.pairing import COLOR, DEPTH, StampPairer

PERIOD = 33_000_000
SECOND = 1_000_000_000
LONG = 1e9


def run(pairer: StampPairer, arrivals, step: float = 0.001):
    """Feed (stream, stamp) in order, then let time pass. Items are the stamps."""
    pairs = []
    now = 0.0
    for stream, stamp in arrivals:
        now += step
        pairs += pairer.add(stream, stamp, stamp, now)
    return pairs + pairer.poll(now + LONG)


@st.composite
def interleavings(draw, colors, depths):
    """Both streams in an arbitrary interleaving that keeps each one's order."""
    choices = draw(st.permutations([COLOR] * len(colors) + [DEPTH] * len(depths)))
    streams = iter(colors), iter(depths)
    return [(stream, next(streams[stream])) for stream in choices]


@st.composite
def synchronised(draw):
    """Equal stamps of both streams, some lost on either side, delivered with any delay of one behind the other."""
    stamps = [i * PERIOD for i in range(draw(st.integers(0, 12)))]
    colors = [s for s in stamps if draw(st.integers(0, 3))]
    depths = [s for s in stamps if draw(st.integers(0, 3))]
    return colors, depths, draw(interleavings(colors, depths))


@given(synchronised(), st.sampled_from([0, 5_000_000, 16_000_000]))
def test_equal_stamps_always_pair_with_each_other(streams, slop):
    """With any loss and any interleaving: what has a partner gets it, and nothing else."""
    colors, depths, arrivals = streams
    pairer = StampPairer(slop, queue_size=20, max_backwards_ns=SECOND)
    pairs = run(pairer, arrivals)
    assert sorted(pairs) == [(s, s) for s in colors if s in depths]


@st.composite
def jittered(draw):
    """Two unsynchronised streams of one rate; a partner is at most 8 ms away and everything else further."""
    count = draw(st.integers(0, 12))
    offset = draw(st.integers(-4_000_000, 4_000_000))
    jitter = st.integers(-2_000_000, 2_000_000)
    colors = [i * PERIOD + draw(jitter) for i in range(count) if draw(st.integers(0, 3))]
    depths = [i * PERIOD + offset + draw(jitter) for i in range(count) if draw(st.integers(0, 3))]
    return colors, depths, draw(interleavings(colors, depths))


@given(jittered())
def test_the_nearest_within_the_tolerance(streams):
    colors, depths, arrivals = streams
    slop = 12_000_000
    pairer = StampPairer(slop, queue_size=20, max_backwards_ns=SECOND)
    expected = sorted((c, d) for c, d in itertools.product(colors, depths) if abs(c - d) <= slop)
    assert sorted(run(pairer, arrivals)) == expected


@given(
    st.lists(st.tuples(st.sampled_from([COLOR, DEPTH]), st.integers(0, 60).map(lambda i: i * 3_000_000)), max_size=40),
    st.integers(0, 10_000_000),
    st.integers(1, 6),
)
def test_whatever_arrives(arrivals, slop, queue_size):
    """Any order, repetitions included: each message is used once or counted, and no queue outgrows its bound."""
    pairer = StampPairer(slop, queue_size, max_backwards_ns=50_000_000)
    pairs, now = [], 0.0
    for number, (stream, stamp) in enumerate(arrivals):
        now += 0.004
        pairs += pairer.add(stream, stamp, (stamp, number), now)
        assert max(pairer.waiting) <= queue_size
        deadline = pairer.next_deadline()
        if deadline is not None:
            assert deadline > now, "what is due has been given"
    pairs += pairer.poll(now + LONG)
    assert pairer.next_deadline() is None
    used = [item for pair in pairs for item in pair]
    assert len(set(used)) == len(used)
    for (color, i), (depth, j) in pairs:
        assert abs(color - depth) <= slop
        assert arrivals[i] == (COLOR, color) and arrivals[j] == (DEPTH, depth)
    assert pairer.paired == len(pairs)
    assert len(arrivals) == 2 * len(pairs) + sum(pairer.waiting) + sum(pairer.dropped)


def test_one_lost_image_does_not_shift_all_later_pairs():
    """At 60 Hz the tolerance spans a whole period, so that the first colour's loss offers depth the wrong partner."""
    period = 16_000_000
    stamps = [i * period for i in range(10)]
    arrivals = [(DEPTH, stamps[0])]
    for stamp in stamps[1:]:
        arrivals += [(COLOR, stamp), (DEPTH, stamp)]
    pairs = run(StampPairer(20_000_000, 10, SECOND), arrivals)
    assert pairs == [(s, s) for s in stamps[1:]]


def test_unequal_stamps_wait_for_a_nearer_partner_no_longer_than_the_tolerance():
    pairer = StampPairer(20_000_000, 10, SECOND)
    assert pairer.add(COLOR, 0, "c0", now=1.0) == []
    assert pairer.add(DEPTH, 8_000_000, "d8", now=1.1) == []
    assert pairer.next_deadline() == pytest.approx(1.12)
    assert pairer.poll(1.11) == []
    assert pairer.poll(1.13) == [("c0", "d8")]


def test_a_later_message_ends_the_wait():
    pairer = StampPairer(20_000_000, 10, SECOND)
    pairer.add(COLOR, 0, "c0", now=1.0)
    pairer.add(DEPTH, 8_000_000, "d8", now=1.0)
    assert pairer.add(COLOR, 33_000_000, "c33", now=1.001) == [("c0", "d8")]


def test_what_no_partner_can_reach_is_dropped_and_counted():
    """Colour without depth: nothing piles up."""
    pairer = StampPairer(0, 10, max_backwards_ns=SECOND)
    for i in range(1000):
        assert pairer.add(COLOR, i * PERIOD, i, now=float(i)) == []
    assert pairer.waiting == (10, 0)
    assert pairer.dropped == [990, 0]
    pairer.add(COLOR, 10_000 * PERIOD, "after a pause", now=0.0)
    assert pairer.waiting == (1, 0)


@pytest.mark.parametrize("arguments", [(-1, 1, 0), (0, 0, 0), (0, 1, -1)])
def test_refuses_what_makes_no_sense(arguments):
    with pytest.raises(ValueError, match="expected slop_ns >= 0"):
        StampPairer(*arguments)
