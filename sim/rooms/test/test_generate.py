from __future__ import annotations

import cv2
import pytest
from roboref_core.command_line import run

from sim.rooms.generate import GenerateConfig

SMALL = ["--frames", "3", "--triangles", "20000"]


def main(arguments: list[str]) -> int:
    return run(GenerateConfig, "roboref sim scene", arguments)


def test_generate_writes_scans_and_resumes(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--seed", "11", "--scenes", "2", "--lost", "0.4", *SMALL]) == 0
    scans = sorted(p.name for p in tmp_path.iterdir())
    assert scans == ["scannetv2-labels.combined.tsv", "scene0011_00", "scene0012_00"]
    names = sorted(p.name.removeprefix("scene0011_00") for p in (tmp_path / "scene0011_00").iterdir())
    assert names == [
        ".aggregation.json",
        ".png",
        ".sens",
        ".txt",
        "_vh_clean_2.0.010000.segs.json",
        "_vh_clean_2.labels.ply",
        "_vh_clean_2.ply",
    ]
    assert cv2.imread(str(tmp_path / "scene0011_00/scene0011_00.png")).shape == (3 * 360, 4 * 320, 3)
    before = (tmp_path / "scene0011_00/scene0011_00.sens").stat().st_mtime_ns
    assert main(["--out", str(tmp_path), "--seed", "11", "--scenes", "2", *SMALL]) == 0
    assert "skipped" in capsys.readouterr().err
    assert (tmp_path / "scene0011_00/scene0011_00.sens").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--frames", "0"], "--frames must be"),
        (["--seed", "9999", "--scenes", "2"], "seeds must lie"),
        (["--lost", "1.5"], "share of lost frames"),
    ],
)
def test_bad_values_are_named(tmp_path, capsys, arguments, text):
    try:
        status = main(["--out", str(tmp_path), *arguments])
    except SystemExit as leaving:  # tyro's own way out when the configuration refuses a value
        status = leaving.code
    assert status == 2
    assert text in capsys.readouterr().err
