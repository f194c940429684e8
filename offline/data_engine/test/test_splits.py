from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.data_engine.splits import assign, check_leakage, read_list, space_of

LISTS = Path(__file__).parents[4] / "shared/data/scannet_labels"


@given(st.sets(st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=1), st.integers(0, 5))
def test_scans_of_one_place_share_their_split(scans, seed):
    names = [f"scene{place:04d}_{scan:02d}" for place, scan in scans]
    found = assign(names, validation_share=0.4, seed=seed)
    assert set(found) == set(names)
    check_leakage({split: [n for n in names if found[n] == split] for split in ("train", "validation")})


def test_lists_are_honoured_and_the_rest_left_out():
    found = assign(["scene0001_00", "scene0002_00", "scene0707_00"], ["scene0001_00"], ["scene0002_00"])
    assert found == {"scene0001_00": "train", "scene0002_00": "validation"}


def test_leaking_lists_are_refused():
    with pytest.raises(ValueError, match=r"leakage: scene0001_01 .* scene0001_00"):
        assign([], ["scene0001_00"], ["scene0001_01"])


def test_ids_of_other_data_sets_stand_for_themselves():
    assert space_of("f3d64c30f8") == "f3d64c30f8" and space_of("scene0012_03") == "scene0012"


@pytest.mark.skipif(not LISTS.exists(), reason="ScanNet's lists not here")
def test_the_official_lists_do_not_leak():
    train, validation = (read_list(LISTS / f"scannetv2_{name}.txt") for name in ("train", "val"))
    assert (len(train), len(validation)) == (1201, 312)
    check_leakage({"train": train, "validation": validation})
