"""A run that was interrupted ends with the same weights, in a checkpoint that the native model loads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from roboref_core.models.model_answer import Outcome
from roboref_core.models.roborefer.backend import RoboReferBackend
from roboref_core.models.vision_language_model import Prompt
from roboref_core.prompting import prompt
from torch.utils.data import DataLoader

from offline.train.nano.pool import PoolConfig, make_chunk
from offline.train.nano.train import Config, Recipe, Trainer

RECIPE = Recipe(chunks=1, seen_steps=2, seen_views=4, steps=5, views=3, warmup=2, depth_from=0.4, depth_share=0.5)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    make_chunk(folder / "pool", 0, PoolConfig(seed=8_100_000, rooms=2, views=12))
    return folder


def run(config: Config, stop: int | None = None) -> Trainer:
    trainer = Trainer(config)
    trainer.resume()
    for batch in trainer.batches():
        trainer.take_step(batch)
        if trainer.step == stop:
            break
    trainer.save()
    return trainer


@pytest.fixture(autouse=True)
def one_thread():
    """Several add gradients up in any order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_step_asks_the_same_whatever_process_makes_it(out):
    """Beside a GPU, batches come from other processes; a step is a function of its number."""
    steps = Trainer(Config(out=out, recipe=RECIPE, device="cpu")).steps
    chosen = [0, 3, 6]
    for step, made in zip(chosen, DataLoader(steps, batch_size=None, sampler=chosen, num_workers=1), strict=True):
        here = steps[step]
        assert torch.equal(made.tiles, here.tiles) and torch.equal(made.depths, here.depths)
        assert [rows.index.tolist() for rows in made.rows] == [rows.index.tolist() for rows in here.rows]
    assert len(steps[6].depths) > len(steps[3].depths) == 0


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_uninterrupted_one(out, tmp_path):
    whole = run(Config(out=out, recipe=RECIPE, device="cpu"))
    weights = {name: tensor.clone() for name, tensor in whole.model.state_dict().items()}
    other = tmp_path / "nano"
    other.mkdir()
    (other / "pool").symlink_to(out / "pool")
    for stop in (1, 3, 4, None):
        ended = run(Config(out=other, recipe=RECIPE, device="cpu"), stop)
    for name, tensor in ended.model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name

    with pytest.raises(ValueError, match="another recipe: lr"):
        Trainer(Config(out=other, recipe=replace(RECIPE, lr=1.0), device="cpu")).resume()

    backend = RoboReferBackend.load(ended.export(tmp_path / "model"), dtype=torch.float32)
    picture = np.full((120, 160, 3), 90, dtype=np.uint8)
    found = backend.generate(Prompt(prompt.referring("the red chair"), (picture,), ()))
    assert found.outcome is not Outcome.UNPARSABLE
