from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offline.data_engine.seeing.overlap import overlap_matrix


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 200))))
def test_overlap_is_intersection_over_union_of_sets(flags):
    n, points = flags.shape
    padded = np.zeros((n, -(-points // 64) * 64), dtype=bool)
    padded[:, :points] = flags
    bits = np.packbits(padded, axis=1, bitorder="little").view(np.uint64)
    found = overlap_matrix(bits)
    sets = [set(np.flatnonzero(row).tolist()) for row in flags]
    for i in range(n):
        for j in range(n):
            union = len(sets[i] | sets[j])
            expected = 1.0 if i == j else len(sets[i] & sets[j]) / union if union else 0.0
            assert abs(found[i, j] - expected) < 1e-6
