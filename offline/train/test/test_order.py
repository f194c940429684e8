"""The order of samples: what every epoch holds, and that it depends on seed, stage and epoch alone."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.train.order import Order, Source, split

sources = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([0.3, 0.5, 1.0, 1.5, 3.0]), st.sampled_from([0.1, 0.5, 1.0])),
    min_size=1, max_size=4,
).map(lambda found: [
    Source(f"d{i}", tuple(np.random.default_rng(i).integers(1, 99, n).tolist()), weight, share)
    for i, (n, weight, share) in enumerate(found)
])  # fmt: skip


def order(found, seed=0, stage="s", **options):
    return Order(found, seed, stage, **({"window": 16, "group": 4} | options))


@given(sources)
def test_what_an_epoch_holds(found):
    whole = order(found)
    counts = Counter(islice(whole.samples(0), whole.epoch_size))
    for source in found:
        subset = max(1, round(len(source.lengths) * source.share))
        per_sample = {key: n for key, n in counts.items() if key[0] == source.name}
        assert sum(per_sample.values()) == max(1, round(subset * source.weight)), "small sets never vanish"
        assert len(per_sample) <= subset and all(0 <= index < len(source.lengths) for _, index in per_sample)
        times = set(per_sample.values()) | ({0} if len(per_sample) < subset else set())
        assert max(times) - min(times) <= 1, "every sample as often as every other"


@given(sources, st.integers(0, 200), st.integers(0, 3))
def test_position_is_consumed_samples(found, consumed, seed):
    whole = order(found, seed)
    ahead = list(islice(whole.samples(0), consumed + 30))
    assert list(islice(order(found, seed).samples(consumed), 30)) == ahead[consumed:]


@given(sources, st.permutations(range(4)))
def test_order_of_sources_is_of_no_account(found, permutation):
    shuffled = [found[i] for i in permutation if i < len(found)]
    assert list(islice(order(found).samples(0), 50)) == list(islice(order(shuffled).samples(0), 50))


def test_seed_stage_and_epoch_change_it():
    found = [Source("d", tuple(range(50)))]
    first = list(islice(order(found).samples(0), 100))
    assert first[:50] != first[50:]
    assert first != list(islice(order(found, seed=1).samples(0), 100))
    assert first != list(islice(order(found, stage="t").samples(0), 100))


def test_the_same_share_in_every_stage():
    found = [Source("d", (1,) * 100, 1.0, 0.25)]
    chosen = {stage: {key for key in islice(order(found, stage=stage).samples(0), 25)} for stage in "ab"}
    assert chosen["a"] == chosen["b"] and len(chosen["a"]) == 25


def test_like_lengths_come_together():
    lengths = tuple(np.random.default_rng(0).integers(1, 1000, 512).tolist())
    found = [Source("d", lengths)]
    keys = list(islice(order(found, window=256, group=8).samples(0), 512))
    spread = np.ptp(np.array([lengths[index] for _, index in keys]).reshape(-1, 8), axis=1).mean()
    assert spread < np.ptp(np.array(lengths).reshape(-1, 8), axis=1).mean() / 10


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_split_is_a_partition(world, micro, passes):
    batch = list(range(world * micro * passes))
    parts = [split(batch, rank, world, micro) for rank in range(world)]
    assert all(len(rows) == micro for part in parts for rows in part)
    assert sorted(key for part in parts for rows in part for key in rows) == batch
    together = [key for turn in zip(*parts, strict=True) for rows in turn for key in rows]
    assert together == batch, "ranks take turns, so that like lengths are seen at the same time"


def test_split_refuses_what_would_hang():
    with pytest.raises(ValueError, match="a batch of 6 does not divide into 2 ranks of micro-batches of 2"):
        split(list(range(6)), 0, 2, 2)


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match="data set d holds no samples"):
        Source("d", ())
