"""What is trained on is what is asked later: same tokens, same tiles; and its truth is in the pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from roboref_core.models.roborefer.checkpoint.files import materialise, open_checkpoint
from roboref_core.models.roborefer.decoding.prefill import Prefiller
from roboref_core.models.roborefer.network.tiling import Tiles, cut_tiles, to_picture
from roboref_core.models.vision_language_model import Prompt
from torch.nn import functional as F

from offline.train.nano.base import write_base
from offline.train.nano.batches import IGNORE, BatchMaker
from offline.train.nano.losses import Network, TrainingHeads, Weights, soft_bins
from offline.train.nano.questions import Mix, Sampler
from sim.rooms.design import PALETTE
from sim.rooms.labels import LABELS


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    base = write_base(tmp_path_factory.mktemp("base") / "model")
    return materialise(open_checkpoint(base), torch.device("cpu"), torch.float32, for_training=True)


@pytest.fixture(scope="module")
def questions(chunk):
    mix = Mix(concat=0.3, grid=0.3)
    return Sampler([chunk], mix).draw(40, np.random.default_rng(0))


@pytest.fixture(scope="module")
def maker(chunk, model):
    kinds, colors = ({name: k for k, name in enumerate(names)} for names in (LABELS, PALETTE))
    return BatchMaker([chunk], model, kinds, colors)


def test_rows_are_what_the_native_model_reads(model, maker, questions):
    """Embedding by embedding: rows with one token less train well, and then every place is off by one when asked."""
    network = Network(model, TrainingHeads(model.config.vision_tower.hidden_size, 192, 1, 1), maker.bin_ids)
    prefiller = Prefiller(model)
    with torch.inference_mode():
        for question, deep in itertools.product(questions[:30], (False, True)):
            wide = question.pictures[-1].right is not None
            pictures = (np.zeros((48, 128 if wide else 64, 3), dtype=np.uint8),) * len(question.pictures)
            planned = prefiller.plan(Prompt(question.text, pictures, pictures if deep else ()))
            batch = maker.make([question], [deep])
            media = {}
            for kind, tiles in (("image", batch.tiles), ("depth", batch.depths)):
                shown = [Tiles(tile.numpy()[None], None) for tile in tiles]
                media[kind] = [embeddings for (embeddings,) in model.encode(shown, kind)] if shown else []
            native, _ = model.insert_media(planned.ids, media)
            (rows,) = batch.rows
            read = F.embedding(rows.index[0, : rows.decisions[0] + 1], network.table(batch)[0])
            torch.testing.assert_close(read, native, atol=1e-5, rtol=1e-4)
            assert question.target is None or rows.cells.any()


def test_tiles_are_those_of_the_native_model(chunk, model, maker, questions):
    """Also where only a part of a tile is redrawn: about marks, and what is painted out."""
    pictures = {p for q in questions for p in q.pictures if p.right is None}
    assert {p.source for p in pictures} == {"color", "removed", "painted", "patched"}
    assert {bool(p.mark) for p in pictures} == {p.grid for p in pictures} == {True, False}
    for picture in pictures:
        drawn = to_picture(maker.drawn(picture), "image")
        (tile,) = cut_tiles(drawn, model.config, "image").pixels
        np.testing.assert_array_equal(maker._tile(picture), tile.transpose(1, 2, 0))


def test_labels_spell_the_answer(model, maker, questions):
    for question in questions:
        (rows,) = maker.make([question]).rows
        labels = rows.labels[0].clone()
        for _, position, target, _ in rows.numbers.tolist():
            assert labels[position] == IGNORE
            labels[position] = maker.bin_ids[min(127, int(target / 1e6 * 128))]
        text = model.tokenizer.decode(labels[labels != IGNORE])
        assert text.endswith("<|im_end|>")
        assert text.startswith("[(0." if question.points else "NOT_VISIBLE")
        assert text.count("(0.") == len(question.points)


def test_a_few_steps_lower_every_part_of_the_loss(model, maker, questions):
    config = model.config
    heads = TrainingHeads(config.vision_tower.hidden_size, config.llm.hidden_size, len(LABELS), len(PALETTE))
    network = Network(model, heads, maker.bin_ids)
    batch = maker.make(questions[:12])
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=2e-3)
    history = []
    for _ in range(12):
        loss, parts = network.losses(batch, Weights())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(parts)
    assert all(history[-1][name] < history[0][name] for name in ("decision", "number", "look", "mark", "match", "seen"))


def test_soft_targets_are_distributions_about_their_value():
    target = soft_bins(torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(target.sum(1), torch.ones(3))
    assert target.argmax(1).tolist()[::2] == [0, 127]
