from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.data_engine.splits import assign, check_leakage, read_list, space_of

LISTS = Path(__file__).parents[4] / "shared/data/scannet_labels"


@given(st.sets(st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=1), st.integers(0, 5))
def test_scans_of_one_place_share_their_split(scans, seed):
    names = [f"scene{place:04d}_{scan:02d}" for place, scan in scans | {(51, 0)}]
    found = assign(names, validation_share=0.4, seed=seed).splits
    assert set(found) == set(names)
    check_leakage({split: [n for n in names if found[n] == split] for split in ("train", "validation")})


def test_lists_are_honoured_and_the_rest_left_out():
    found = assign(["scene0001_00", "scene0002_00", "scene0707_00"], ["scene0001_00"], ["scene0002_00"]).splits
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


@given(st.sets(st.integers(0, 500), min_size=2, max_size=12), st.floats(0.01, 0.99), st.integers(0, 5))
def test_several_places_give_both_splits(places, share, seed):
    found = assign([f"scene{place:04d}_00" for place in places], validation_share=share, seed=seed)
    assert set(found.splits.values()) == {"train", "validation"} and found.notes == ()


def test_scans_of_one_place_cannot_be_divided():
    scans = ["scene0000_00", "scene0000_01"]
    with pytest.raises(ValueError, match=r"all 2 scans are of one place, scene0000.*--validation-share 0"):
        assign(scans)
    assert set(assign(scans, validation_share=0).splits.values()) == {"train"}
    alone = assign(scans[:1], validation_share=0.9)
    assert alone.splits == {"scene0000_00": "train"} and alone.notes == ("no scene is in the split validation",)


def test_what_lists_leave_out_is_said():
    notes = assign(["scene0001_00", "scene0009_00"], ["scene0001_00", "scene0003_00"], ["scene0002_00"]).notes
    assert notes == (
        "1 of the 2 scenes of the train list are not there: scene0003_00",
        "1 of the 1 scenes of the validation list are not there: scene0002_00",
        "1 scenes are in neither list and are left out: scene0009_00",
        "no scene is in the split validation",
    )
