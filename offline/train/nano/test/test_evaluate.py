"""The rooms of nano's report, and that kept ones are what was asked for."""

from __future__ import annotations

import pytest

from offline.train.nano.evaluate import make_data


def test_kept_rooms_of_another_number_are_refused(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "scans" / "scene6000_00").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds 1 rooms, not 2: choose another --out"):
        make_data(tmp_path, 6000, 2, 4, 5, 1)
