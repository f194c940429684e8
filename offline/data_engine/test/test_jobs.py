"""What people have on disk: which folders are scans, and in which split."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline.data_engine.build_command import Build
from offline.data_engine.jobs import find_jobs, find_scans
from offline.data_engine.splits import assign


def exported(folder: Path) -> Path:
    for name in ("color", "depth", "pose"):
        (folder / name).mkdir(parents=True)
    return folder


def arkit(folder: Path) -> Path:
    (folder / f"{folder.name}_frames").mkdir(parents=True)
    (folder / f"{folder.name}_frames" / "lowres_wide.traj").touch()
    return folder


def test_one_exported_scan_is_a_folder_of_scans_too(tmp_path):
    scan = exported(tmp_path / "scene0000_00")
    assert find_scans(scan).paths == find_scans(tmp_path).paths == {"scene0000_00": scan}


def test_scans_in_folders_of_their_own_are_found(tmp_path):
    exported(tmp_path / "scans" / "scene0000_00")
    (tmp_path / "scans" / "scene0001_00").mkdir()
    (tmp_path / "scans_test").mkdir()
    (tmp_path / "scans_test" / "scene0707_00.sens").touch()
    (tmp_path / "scannetv2-labels.combined.tsv").touch()
    found = find_scans(tmp_path)
    # A folder without frames is a scan as well: it fails by its name.
    assert sorted(found.paths) == ["scene0000_00", "scene0001_00"]
    assert found.notes == (f"{tmp_path / 'scans_test'}: not used, test scans have no annotation",)


def test_folders_called_after_splits_decide_unless_lists_do(tmp_path):
    for split, name in (("Training", "40777060"), ("Training", "40777061"), ("Validation", "41048190")):
        arkit(tmp_path / "3dod" / split / name)
    jobs, notes = find_jobs(tmp_path, assign)
    assert {job.scene_id: job.split for job in jobs} == {
        "40777060": "train", "40777061": "train", "41048190": "validation",
    }  # fmt: skip
    assert notes == ()
    jobs, notes = find_jobs(tmp_path, lambda ids: assign(ids, ["41048190"]), use_stated=False)
    assert [(job.scene_id, job.split) for job in jobs] == [("41048190", "train")] and len(notes) == 2


def test_two_scans_of_one_name_are_refused(tmp_path):
    exported(tmp_path / "a" / "scene0000_00")
    exported(tmp_path / "b" / "scene0000_00")
    with pytest.raises(ValueError, match="both called scene0000_00"):
        find_scans(tmp_path)


def test_a_mistyped_label_ends_a_build_before_it_begins(scans, tmp_path):
    from offline.data_engine.config import SceneConfig
    from offline.data_engine.filters import FilterConfig
    from offline.data_engine.sources.discover import annotated_labels

    label = sorted(label for path in scans.iterdir() if path.is_dir() for label in annotated_labels(path))[0]
    build = Build(scans, tmp_path, scene=SceneConfig(filters=FilterConfig(labels=(label, f"{label}x", "zzzz"))))
    with pytest.raises(ValueError, match=rf"'{label}x'; did you mean '{label}'\?; no label 'zzzz'"):
        build.run()
