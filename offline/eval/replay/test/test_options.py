"""Options of a replay in combination: each combination is replayed, or refused before anything is recorded."""

from __future__ import annotations

from itertools import combinations, product

import pytest

pytest.importorskip("rclpy", reason="no ROS in this environment")
pytest.importorskip("roboref_ros", reason="ros2_ws is not built")

from offline.cli import main
from offline.eval.records.replays import read_records

TINY = ("--seeds", "3", "--frames", "16", "--questions", "4", "--rate", "5", "--objects", "10")
PERTURBED = {
    "as recorded": (),
    "noisy": ("--pose-noise", "0.02", "1", "--depth", "sensor", "--depth-noise", "0.01", "--depth-holes", "0.1"),
    "drifting, late, dropped": ("--pose-drift", "0.01", "0.2", "--late", "0.2", "--dropped", "0.1"),
    "moved": ("--moved", "1", "--removed", "1"),
}
# Every pair of values of two options is in one of these.
REPLAYED = [
    ("marks", "stepped", "fused", "as recorded"),
    ("words", "live", "nano", "as recorded"),
    ("words", "stepped", "nano", "noisy"),
    ("words", "live", "reprojection", "drifting, late, dropped"),
    ("marks", "live", "reprojection", "noisy"),
    ("marks", "stepped", "nano", "drifting, late, dropped"),
    ("marks", "live", "nano", "moved"),
    ("words", "stepped", "reprojection", "as recorded"),
    ("marks", "stepped", "reprojection", "moved"),
]


def command(out, ask, way, backend, perturbed) -> list[str]:
    live = ["--live", "--askers", "1"] if way == "live" else []
    return [
        "eval",
        "replay",
        "--out",
        str(out),
        *TINY,
        "--ask",
        ask,
        *live,
        "--backend",
        backend,
        *PERTURBED[perturbed],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("combination", REPLAYED, ids=" ".join)
def test_a_combination_is_replayed(tmp_path, domain, capsys, combination):
    assert main(command(tmp_path, *combination)) == 0, capsys.readouterr().err
    records = read_records(tmp_path / "seed-3" / "questions.jsonl")
    assert len(records) >= (1 if "live" in combination else 4)
    assert (tmp_path / "report.html").exists()
    assert main(["eval", "replay", "compare", str(tmp_path), str(tmp_path)]) == 0


def test_every_pair_of_options_is_replayed_or_refused():
    values = [("marks", "words"), ("stepped", "live"), ("nano", "reprojection"), tuple(PERTURBED)]
    for first, second in combinations(range(4), 2):
        missing = set(product(values[first], values[second])) - {(one[first], one[second]) for one in REPLAYED}
        assert missing <= {("words", "moved")}, missing


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ask", "words", "--moved", "1"], "--ask words"),
        (["--ask", "words", "--removed", "1"], "--ask words"),
        (["--ask", "words", "--scene", "."], "--ask words needs a procedural room"),
        (["--moved", "1", "--scene", "."], "--moved needs a procedural room"),
        (["--live", "--speed", "0"], "speed"),
        (["--live", "--askers", "-1"], "askers"),
        (["--backend", "openai", "--url", "http://a", "http://b"], "expected one server"),
        (["--focal-scale", "0"], "focal_scale"),
        (["--pose-noise", "-1", "0"], "pose noise"),
    ],
)
def test_what_cannot_be_combined_is_refused_before_anything_is_recorded(tmp_path, capsys, options, words):
    out = tmp_path / "out"
    try:
        status = main(["eval", "replay", "--out", str(out), *options])
    except SystemExit as refused:  # by the parser
        status = refused.code
    assert status == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
