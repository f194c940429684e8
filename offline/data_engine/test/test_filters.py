from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from roboref_core.scene import Instances
from roboref_core.views.visibility import Visibility

from offline.data_engine.filters import (
    FilterConfig,
    category,
    immobile_family,
    reject_frame,
    reject_object,
    reject_view,
)
from offline.data_engine.seeing.alignment import Alignment
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import STATES, ObjectView
from offline.data_engine.sources.labels import LabelTable, structural_family
from offline.data_engine.test.synthetic import box, merge

TABLE = Path(__file__).parents[4] / "shared/data/scannet_labels/scannetv2-labels.combined.tsv"


def test_every_wall_floor_door_and_fixture_spelling_is_culled():
    for label in ("wall", "Closet  Walls", "shower floor", "door frame", "garage door", "windowsill", "hand rail"):
        assert structural_family(label) is not None
    for label in ("kitchen cabinets", "Bathtub", "shower curtain", "bookshelves", "washing machines", "range hood"):
        assert immobile_family(label) is not None
    for label in ("coffee machine", "office chair", "backpack", "cutting board", "hair dryer", "laundry basket"):
        assert immobile_family(label) is None and structural_family(label) is None


@pytest.mark.skipif(not TABLE.exists(), reason="ScanNet's label table not here")
def test_the_official_table_adds_what_names_do_not_say():
    table = LabelTable.read(TABLE)
    assert immobile_family("bathroom vanity") is None and immobile_family("bathroom vanity", table) is not None
    fixed = {label for label in table.nyu40_of if structural_family(label, table) or immobile_family(label, table)}
    kept = set(table.nyu40_of) - fixed
    assert {"chair", "backpack", "trash can", "laptop"} <= kept and len(kept) > 300


def test_objects_are_rejected_by_what_they_are_and_by_size():
    sizes = {1: 0.3, 2: 0.02, 3: 4.0, 4: 0.3, 5: 0.3}
    mesh, ids = merge([(*box((0, 0, 5 * i), np.array((0.1, 0.1, 5 * i)) + (s, 0, 0)), i) for i, s in sizes.items()])
    surface = Surface.build(mesh, Instances(ids, {}))
    config = FilterConfig(min_extent=0.11 + 0.02)
    labels = {1: "cup", 2: "cup", 3: "bench", 4: "bath walls", 5: "person", 9: "ghost"}
    found = {i: reject_object(i, label, surface, config) for i, label in labels.items()}
    assert found == {1: None, 2: "too_small", 3: "too_large", 4: "structural", 5: "living", 9: "no_surface"}
    assert reject_object(1, "cup", surface, FilterConfig(labels=("mug",))) == "label_not_wanted"
    assert reject_object(1, " Cup", surface, FilterConfig(labels=("cup",))) is None


def view(**changes) -> ObjectView:
    counts = np.zeros(5, np.int64)
    counts[STATES.index(Visibility.VISIBLE)] = 1000
    for name, n in changes.pop("counts", {}).items():
        counts[STATES.index(Visibility[name])] = n
    values = {
        "object_id": 1,
        "state": Visibility.VISIBLE,
        "counts": counts,
        "fraction": 0.9,
        "area": 1000,
        "box": (5, 5, 40, 40),
        "border_distance": 5,
        "distance": 2.0,
        "direction": np.array([0.0, 0, 1]),
        "elevation": 0.3,
        "certainly_hidden": False,
        "hole_share": 0.1,
        "residual": 0.01,
    } | changes
    return ObjectView(**values)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"state": Visibility.OCCLUDED}, "occluded"),
        ({"distance": 9.0}, "too_far"),
        ({"counts": {"OUT_OF_FRUSTUM": 500}}, None),
        ({"counts": {"OUT_OF_FRUSTUM": 800}}, "cut_by_border"),
        ({"area": 10}, "too_few_pixels"),
        ({"area": 60_000}, "too_many_pixels"),
        ({"fraction": 0.1}, "mostly_occluded"),
        ({"hole_share": 0.8}, "sensor_holes"),
        ({"counts": {"CONFLICT": 800}}, "contradicted"),
        ({"residual": 0.09}, "sensor_noise"),
    ],
)
def test_views_are_rejected_for_one_named_reason(changes, reason):
    assert reject_view(view(**changes), 100_000, FilterConfig()) == reason


def test_frames_with_bad_poses_are_rejected():
    good = Alignment(compared=0.8, median=0.002, mad=0.01, inliers=0.95, edges=0.8)
    assert reject_frame(good, FilterConfig()) is None
    for changes in ({"inliers": 0.3}, {"median": -0.2}, {"mad": 0.3}):
        assert reject_frame(Alignment(**(good.__dict__ | changes)), FilterConfig()) == "bad_pose"
    assert reject_frame(Alignment(**(good.__dict__ | {"compared": 0.0})), FilterConfig()) == "no_depth"


def test_category_unifies_spellings_without_a_table():
    assert category("  Trash   Can ") == "trash can"
