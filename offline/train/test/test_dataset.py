"""Samples to batches: against recordings of the reference, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import PIL
import pytest
import torch
import yaml
from roboref_core.models.roborefer.network.tiling import cut_tiles, to_picture

from offline.files import read_picture, write_picture
from offline.train.dataset import TrainData, collator
from offline.train.families import family_of
from offline.train.families.roborefer.loss import embed_batch
from offline.train.network import Network, load_network
from offline.train.plan import PARTS, load_plan, plan_of
from offline.train.registry import Entry, Term, terms_of
from offline.train.run import stage_data
from offline.train.test.tiny import write_project

RECORDINGS = Path(__file__).parents[3] / "ros2_ws/src/roboref_core/test/roborefer/fixtures"
BASE = RECORDINGS / "ckpt_rgbd_3x3"


class TestAgainstTheReference:
    """Recorded with Zhoues/RoboRefer at d97a995, see README.md beside the recordings."""

    @pytest.fixture(scope="class")
    def recorded(self):
        return dict(np.load(RECORDINGS / "train_rgbd_3x3_dynamic_rgbd.npz"))

    @pytest.fixture(scope="class")
    def plan(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("recorded")
        (folder / "depth").mkdir()
        for name in "abc":
            shutil.copy(RECORDINGS / "scenes" / f"{name}_d.png", folder / "depth" / f"{name}.png")
        return plan_of(
            {
                "model": str(BASE),
                "output": "o",
                "data_path": str(RECORDINGS / "train_samples.json"),
                "batch": 3,
                "image_folder": str(RECORDINGS / "scenes"),
                "depth_folder": "depth",
                "precision": "fp32",
                "stages": [{"name": "s", "until_step": 1}],
            },
            folder,
            folder,
        )

    @pytest.fixture(scope="class")
    def data(self, plan):
        return stage_data(plan)[0]

    @pytest.fixture(scope="class")
    def batch(self, data):
        items = [data["train_samples", index] for index in range(3)]
        assert not any(item.problems for item in items)
        return collator(data.reader)(items)

    def test_labels(self, data, recorded):
        for index in range(3):
            example = data["train_samples", index].example
            assert np.array_equal(example.input_ids, recorded[f"s{index}_input_ids"])
            assert np.array_equal(example.labels, recorded[f"s{index}_labels"])
            assert example.text == str(recorded[f"s{index}_text"])

    def test_collation(self, batch, recorded):
        for key in ("input_ids", "labels", "attention_mask"):
            assert np.array_equal(getattr(batch.batch, key), recorded[f"batch_{key}"]), key

    def test_counts(self, batch, plan):
        """What is counted from sizes is what the model makes of the pictures."""
        network = load_network(plan, PARTS, None)
        rows = embed_batch(network.model, batch.batch)
        assert sum(len(row.labels) for row in rows) == batch.text + batch.visual
        assert sum(int((row.labels[1:] != -100).sum()) for row in rows) == batch.supervised

    @pytest.mark.skipif(int(PIL.__version__.split(".")[0]) >= 13, reason="recorded with Pillow < 13")
    def test_loss_and_gradient_norms(self, batch, plan, recorded):
        network = load_network(plan, PARTS, None).train()
        loss = network(batch.batch, batch.supervised)
        assert loss.item() == pytest.approx(float(recorded["loss"]), abs=1e-5)
        loss.backward()
        norms = json.loads((RECORDINGS / "train_rgbd_3x3_dynamic_rgbd_gradnorms.json").read_text())
        mine = dict(network.model.named_parameters())
        compared = 0
        for name, norm in norms.items():
            if not norm:
                continue
            assert mine[name].grad.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-7), name
            compared += 1
        learning = [name for name, p in mine.items() if p.requires_grad and p.grad is not None and p.grad.norm() > 0]
        assert compared == len(learning)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("data"))


@pytest.fixture
def data_of(project, tmp_path):
    """Data of samples made by hand, over the tiny model."""
    plan = load_plan(project)
    reader = family_of(plan.model).reader(plan)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (24, 32, 3)), ("b.png", (20, 32, 3))):
        write_picture(tmp_path / name, rng.integers(0, 255, size, dtype=np.uint8))
    write_picture(tmp_path / "depth.png", rng.integers(0, 255, (24, 32), dtype=np.uint8))
    write_picture(tmp_path / "deep.png", rng.integers(0, 9000, (24, 32), dtype=np.uint16))
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])

    def make(*samples, depth=False):
        (tmp_path / "data.json").write_text(json.dumps(samples))
        roots = {"image_root": tmp_path, **({"depth_root": tmp_path} if depth else {})}
        return TrainData([Term("d", Entry(json=tmp_path / "data.json", **roots))], reader, 0, "s", 8, 2)

    return make


def sample(question="Where?", answer="[(0.500, 0.500)]", **fields):
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **fields}


@pytest.mark.parametrize(("fields", "depth", "message"), [
    ({"image": "missing.png"}, False, r"data\.json\[0\].*missing\.png: cannot be read"),
    ({"image": "broken.png"}, False, "broken.png: not a picture"),
    ({"image": ["a.png", "b.png"], "depth": "depth.png"}, True, "one depth picture per image, found 1 for 2"),
    ({"image": "b.png", "depth": "depth.png"}, True, r"depth 0 has size \(32, 24\), its image \(32, 20\)"),
    ({"image": "a.png", "depth": "deep.png"}, True, "8-bit mode RGB or L, found mode I;16"),
    ({"image": ["a.png", "b.png"], "question": "In <image>, where?"}, False, "1 <image> for 2 pictures"),
    ({"question": "<image>\nWhere?"}, False, "1 <image> for 0 pictures"),
    ({"answer": 5}, False, "expected from"),
    ({"conversations": None}, False, "expected conversations"),
    ({"conversations": ["Where?"]}, False, "expected conversations"),
    ({"question": "word " * 600}, False, "no answer within 512 of its"),
])  # fmt: skip
def test_refused(data_of, fields, depth, message):
    data = data_of(sample(**fields), depth=depth)
    with pytest.raises(ValueError, match=message):
        data.item(("d", 0))


def test_one_channel_depth_is_widened(data_of):
    data = data_of(sample(image="a.png", depth="depth.png"), depth=True)
    (tiles,) = data.item(("d", 0)).example.depths
    assert tiles.pixels.shape[1] == 3 and (tiles.pixels[:, 0] == tiles.pixels[:, 2]).all()


def test_one_placeholder_per_picture(data_of):
    data = data_of(sample(image=["a.png", "b.png"]), sample(images=["a.png"]), sample())
    counts = [data.item(("d", i)).example.text.count("<image>") for i in range(3)]
    assert counts == [2, 1, 0]


def test_quarantine(data_of):
    """An unusable sample is named, and another of its data set takes its place: always the same."""
    data = data_of(sample(image="broken.png"), sample(answer="yes"), sample(answer="no"))
    item, again = data["d", 0], data["d", 0]
    assert len(item.problems) >= 1 and "broken.png" in item.problems[0]
    assert item.example.text == again.example.text and ("yes" in item.example.text or "no" in item.example.text)
    batch = collator(data.reader)([item, data["d", 1]])
    assert batch.problems == item.problems and batch.samples == 2


def test_nothing_usable_is_an_error(data_of):
    data = data_of(sample(image="broken.png"))
    with pytest.raises(ValueError, match="unusable samples in a row"):
        data["d", 0]


def test_a_run_stops_at_too_many_corrupt_samples(project, tmp_path):
    from offline.train.run import run

    raw = yaml.safe_load(project.read_text()) | {"output": str(tmp_path / "run"), "max_corrupt": 0.05}
    folder = shutil.copytree(project.parent, tmp_path / "copy")
    for index in (0, 1, 3, 4, 6):
        for file in (folder / "a" / "image").glob(f"a_{index}_*"):
            file.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"unusable samples among .* max_corrupt is 0.05"):
        run(plan_of(raw, project, folder))
    problems = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    assert "not a picture" in json.loads(problems[0])["problem"]


def test_pictures_of_jpeg_are_those_of_inference(data_of, tmp_path):
    """JPEG decoders differ: training reads pictures by the function that the evaluation reads them by."""
    smooth = cv2.resize(np.random.default_rng(1).integers(0, 255, (3, 4, 3), dtype=np.uint8), (64, 48))
    write_picture(tmp_path / "photo.jpg", smooth)
    data = data_of(sample(image="photo.jpg"))
    (tiles,) = data.item(("d", 0)).example.images
    picture = read_picture(tmp_path / "photo.jpg")
    assert np.array_equal(tiles.pixels, cut_tiles(to_picture(picture, "image"), data.reader.config, "image").pixels)


def test_travels_to_workers(project):
    plan = load_plan(project)
    data = pickle.loads(pickle.dumps(stage_data(plan)[1]))
    assert isinstance(data["a", 0].example.input_ids, torch.Tensor)
    assert [term.name for term in terms_of(plan, plan.stages[1])] == ["a", "b"]


def test_what_learns(project):
    """Parts that do not learn are in eval mode and get no gradient; tensors behind the selected layer never learn."""
    plan = load_plan(project)
    network = load_network(plan, ("mm_projector", "vision_tower"), None).train()
    assert isinstance(network, Network) and not network.model.llm.training and network.model.mm_projector.training
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(name.startswith(("model.mm_projector", "model.vision_tower")) for name in learning)
    assert not any("layers.1." in name or "post_layernorm" in name for name in learning if "vision_tower" in name)
