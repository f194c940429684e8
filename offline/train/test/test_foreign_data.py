"""Data as others publish them, through `roboref train check` to one step: RefSpatial's tree, manipulation records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from roboref_core.models.roborefer.checkpoint.random import write_random_checkpoint

from offline.files import write_json, write_picture
from offline.train.cli import main
from offline.train.plan import load_plan
from offline.train.registry import load_registry
from offline.train.run import Outcome, run
from offline.train.test.tiny import SHAPE
from offline.train.test.tiny_onevision import write_checkpoint

RNG = np.random.default_rng(0)


def picture(path: Path, channels: int = 3) -> str:
    write_picture(path, RNG.integers(0, 255, (24, 32, channels) if channels > 1 else (24, 32), dtype=np.uint8))
    return path.name


def entry(question: str, answer: str, **fields) -> dict:
    said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": said, **fields}


@pytest.fixture
def refspatial(tmp_path):
    """Lists with and without names of depth pictures, of one picture and of several, several turns, and choices."""
    root = tmp_path / "RefSpatial"
    one = picture(root / "2D" / "image" / "a.png")
    picture(root / "2D" / "depth" / "a.png", 1)
    write_json(
        root / "2D" / "choice_qa.json",
        [
            entry("<image>\nWhich is nearer? (A) cup (B) bowl", "(A)", image=one),
            entry("<image>\nPoint to the cup.", "[(0.250, 0.500), (0.300, 0.510)]", image=[one]),
        ],
    )
    names = [picture(root / "3D" / "image_multi_view" / f"{n}.jpg") for n in range(2)]
    depths = [picture(root / "3D" / "depth_multi_view" / f"{n}.png", 1) for n in range(2)]
    turns = entry("<image>\n<image>\nWhere is it?", "It is at [(0.1, 0.2)].", image=names, depth=depths)
    turns["conversations"] += entry("And how far is it?", "1.35 meters")["conversations"]
    write_json(root / "3D" / "multi_view_qa.json", [turns])
    seen = picture(root / "Simulator" / "image" / "s.png")
    picture(root / "Simulator" / "depth" / "s_depth.png", 1)
    write_json(
        root / "Simulator" / "metadata.json",
        [
            entry("<image>\nFree space?", "[(0.7, 0.8)]", image=seen, depth="s_depth.png"),
        ],
    )
    return root


def write_plan(folder: Path, registry: str, mixture: str, parts: list[str]) -> Path:
    (folder / "datasets.yaml").write_text(registry)
    plan = {
        "model": "base",
        "registry": "datasets.yaml",
        "output": "run",
        "batch": 4,
        "micro_batch": 2,
        "precision": "fp32",
        "report_to": [],
        "stages": [{"name": "s", "mixture": mixture, "until_step": 2, "train": parts, "lr": 1e-3}],
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    return folder / "plan.yaml"


def test_refspatial(refspatial, tmp_path, capsys):
    assert main(["refspatial", str(refspatial)]) == 0
    registry = capsys.readouterr().out
    mixture = registry.splitlines()[0].removeprefix("# mixture: ")
    write_random_checkpoint(tmp_path / "base", SHAPE, scale=0.1)
    plan = write_plan(tmp_path, registry, mixture, ["llm", "mm_projector", "depth_projector"])
    assert set(load_registry(tmp_path / "datasets.yaml")) == {
        "2D_choice_qa",
        "3D_multi_view_qa",
        "Simulator_metadata",
        "2D_choice_qa_RGB",
        "3D_multi_view_qa_RGB",
        "Simulator_metadata_RGB",
    }
    assert main(["check", str(plan)]) == 0
    said = capsys.readouterr().out
    assert "  3D_multi_view_qa: 1 samples, RGB-D" in said and "2 to 2 pictures" in said
    assert "It is at [(0.1, 0.2)].<|im_end|>1.35 meters<|im_end|>" in said
    assert run(load_plan(plan)) is Outcome.FINISHED
    assert not (tmp_path / "run" / "quarantine.jsonl").exists()


def test_no_refspatial(tmp_path, capsys):
    assert main(["refspatial", str(tmp_path)]) == 2
    assert "no RefSpatial list" in capsys.readouterr().err


ANSWERS = (
    "[[0.102, 0.305], [0.410, 0.562]]",
    "[[0.10, 0.30], [0.20, 0.35], [0.30, 0.50], [1.00, 0.00]]",
    "[[0.512, 0.498]]",
    '{"bbox": [0.1, 0.2, 0.3, 0.4]}',
    "B",
    "B. Lift the cup (2 of 3), then put it down.",
    "Move 12, 15 and [1, 2, 3].",
)


@pytest.fixture
def manipulation(tmp_path):
    write_checkpoint(tmp_path / "base")
    images = [picture(tmp_path / "images" / "rh20t" / f"{n}.jpg") for n in range(3)]
    samples = [
        entry("<image>\nWhere to grasp?", answer, id=str(n), images=[f"rh20t/{images[n % 3]}"])
        for n, answer in enumerate(ANSWERS)
    ]
    (tmp_path / "data.json").write_text(json.dumps(samples))
    registry = {"rh20t": {"json": "data.json", "image_root": "images", "convention": "normalised"}}
    return write_plan(tmp_path, yaml.safe_dump(registry), "rh20t", ["llm", "vision_tower", "mm_projector"])


def test_manipulation_records(manipulation, capsys):
    assert main(["check", str(manipulation)]) == 0
    assert "rh20t: 7 samples, RGB" in capsys.readouterr().out
    assert run(load_plan(manipulation)) is Outcome.FINISHED
    assert not (manipulation.parent / "run" / "quarantine.jsonl").exists()


@pytest.mark.parametrize("answer", [
    "[[102, 305], [410, 562]]", "[[0.1, 0.3], [0.2, 1.35]]", "[[-0.1, 0.3]]", '{"bbox": [12, 20, 30, 44]}',
    "(640.0, 0.5)",
])  # fmt: skip
def test_coordinates_of_another_scale(manipulation, capsys, answer):
    file = manipulation.parent / "data.json"
    samples = json.loads(file.read_text())
    samples[2]["conversations"][1]["value"] = answer
    file.write_text(json.dumps(samples))
    assert main(["check", "--no-model", str(manipulation)]) == 1
    assert "lies outside [0, 1], its convention is normalised" in capsys.readouterr().out
