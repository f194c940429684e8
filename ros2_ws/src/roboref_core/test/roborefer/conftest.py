"""Recordings of the reference and small random checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import regex
import torch
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.checkpoint.files import load_model, save_checkpoint
from roboref_core.models.roborefer.checkpoint.random import Shape, write_random_checkpoint
from roboref_core.models.vision_language_model import Prompt
from roboref_core.prompting.answer_text import NOT_VISIBLE

FIXTURES = Path(__file__).parent / "fixtures"
CASES = sorted(file.stem.removeprefix("infer_") for file in FIXTURES.glob("infer_*.npz"))


@dataclass
class Recording:
    """One run of the reference's inference, and the checkpoint it ran on."""

    name: str
    data: dict[str, np.ndarray]

    @property
    def checkpoint(self) -> Path:
        return next(p for p in FIXTURES.glob("ckpt_*") if self.name.startswith(p.name.removeprefix("ckpt_")))

    @property
    def aspect(self) -> str:
        return str(self.data["aspect"])

    def pictures(self, kind: str) -> tuple[np.ndarray, ...]:
        return tuple(self.data[key] for key in sorted(self.data) if key.startswith(f"input_{kind}_"))

    @property
    def prompt(self) -> Prompt:
        return Prompt(str(self.data["text"]), self.pictures("image"), self.pictures("depth"))


class Written:
    """Answers as they are written out, told by a regular expression instead of the grammar's automaton."""

    @staticmethod
    def is_beginning(text: str, max_points: int) -> bool:
        point = r"\(0\.[0-9]{3}, 0\.[0-9]{3}\)"
        answer = rf"NOT_VISIBLE|\[{point}(, {point}){{0,{max_points - 1}}}\]"
        return regex.fullmatch(answer, text, partial=True) is not None

    @staticmethod
    def is_whole(beginning: str) -> bool:
        return beginning == NOT_VISIBLE or beginning.endswith("]")


@pytest.fixture(scope="session")
def written():
    return Written


@pytest.fixture(autouse=True)
def one_thread():
    """Equal to the last bit means at equal numbers of threads; and tests share their cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(params=CASES)
def recording(request) -> Recording:
    return Recording(request.param, dict(np.load(FIXTURES / f"infer_{request.param}.npz")))


@pytest.fixture(scope="session")
def models():
    """Loads each recorded checkpoint once."""
    loaded = {}

    def model(path: Path):
        if path not in loaded:
            loaded[path] = load_model(path)
        return loaded[path]

    return model


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """Writes each shape of random checkpoint once; returns its path."""
    written = {}

    def path(**dimensions) -> Path:
        shape = Shape(**dimensions)
        if shape not in written:
            folder = tmp_path_factory.mktemp("random")
            # Larger weights than a training begins with: distinct answers to distinct prompts.
            written[shape] = write_random_checkpoint(folder, shape, seed=4, scale=0.15)
        return written[shape]

    return path


@pytest.fixture
def random_backend(random_checkpoint):
    def backend(dimensions: dict | None = None, **options) -> RoboReferBackend:
        return RoboReferBackend.load(random_checkpoint(**dimensions or {}), **options)

    return backend


def picture(number: int, width: int = 120, height: int = 90, channels: int = 3) -> np.ndarray:
    """A colour or depth picture, as numbered."""
    small = np.random.default_rng(number).integers(0, 256, (6, 8, channels), dtype=np.uint8)
    return small.repeat(-(-height // 6), axis=0).repeat(-(-width // 8), axis=1)[:height, :width]


@pytest.fixture(scope="session")
def pictures():
    return picture


@pytest.fixture(scope="session")
def trained_checkpoint(tmp_path_factory, random_checkpoint):
    """Trains each shape once: a tiny model that the training code taught to answer some prompts. And these answers."""
    trained = {}

    def checkpoint(**dimensions) -> tuple[Path, list[tuple[Prompt, str]]]:
        source = random_checkpoint(aspect="resize", depth="none", **dimensions)
        if source not in trained:
            path = tmp_path_factory.mktemp("trained") / "checkpoint"
            trained[source] = path, _teach(source, path)
        return trained[source]

    return checkpoint


def _teach(source: Path, path: Path) -> list[tuple[Prompt, str]]:
    answers = ("[(0.123, 0.456)]", NOT_VISIBLE, "[(0.250, 0.031), (0.975, 0.602)]", "[(0.999, 0.000)]")
    lessons = [(Prompt("Where is the cup?", (picture(i), picture(i + 10))), a) for i, a in enumerate(answers)]
    torch.manual_seed(0)
    training = pytest.importorskip("offline.train.families.roborefer.loss", reason="training runs from a checkout")
    from offline.train.families.roborefer.examples import build_example, collate

    model = load_model(source, for_training=True, network=training.TrainableRoboRefer)
    examples = [
        build_example(
            [{"from": "human", "value": prompt.text}, {"from": "gpt", "value": answer}],
            prompt.images,
            (),
            model.config,
            model.tokenizer,
        )
        for prompt, answer in lessons
    ]
    batch = collate(examples, model.tokenizer)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(200):
        optimiser.zero_grad()
        loss = model(batch)
        loss.backward()
        optimiser.step()
        if float(loss.detach()) < 0.02:
            break
    assert float(loss.detach()) < 0.02
    save_checkpoint(model, source, path)
    return lessons
