from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sim.rooms.labels import COLUMNS, LABELS, label_table

OFFICIAL = Path(__file__).parents[4] / "shared/data/scannet_labels/scannetv2-labels.combined.tsv"


def test_table_has_scannets_columns_and_one_row_per_spelling():
    lines = label_table().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert len(lines) == len(LABELS) + 1 and all(line.count("\t") == 16 for line in lines)


@pytest.mark.skipif(not OFFICIAL.exists(), reason="ScanNet's own label table is not here")
def test_rows_agree_with_scannets_own_table():
    with OFFICIAL.open(newline="") as file:
        rows = {row["raw_category"]: row for row in csv.DictReader(file, delimiter="\t")}
    for raw, label in LABELS.items():
        row = rows[raw]
        found = (int(row["id"]), row["category"], int(row["nyu40id"]), row["nyu40class"])
        assert found == (label.id, label.category, label.nyu40id, label.nyu40class)
