"""Training samples, batches, loss and gradients against recordings of the reference."""

from __future__ import annotations

import json

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from roboref_core.models.roborefer.checkpoint.files import load_model
from roboref_core.models.roborefer.decoding.prefill import Prefiller
from roboref_core.models.roborefer.prompt_text import render_chat
from roboref_core.models.vision_language_model import Prompt

from offline.train.families.roborefer.examples import IGNORE, build_example, collate, label_answers
from offline.train.families.roborefer.loss import TrainableRoboRefer, batch_loss, embed_batch, pack


@pytest.fixture(scope="module")
def recorded(fixtures):
    return dict(np.load(fixtures / "train_rgbd_3x3_dynamic_rgbd.npz"))


@pytest.fixture(scope="module")
def model(fixtures):
    return load_model(fixtures / "ckpt_rgbd_3x3", for_training=True, network=TrainableRoboRefer)


@pytest.fixture(scope="module")
def samples(fixtures):
    return json.loads((fixtures / "train_samples.json").read_text())


@pytest.fixture(scope="module")
def examples(fixtures, samples, model):
    def build(sample):
        names = sample.get("image", [])
        names = [names] if isinstance(names, str) else names
        scenes = fixtures / "scenes"
        images = [Image.open(scenes / name) for name in names]
        depths = [Image.open(scenes / name.replace(".png", "_d.png")) for name in names]
        return build_example(sample["conversations"], images, depths, model.config, model.tokenizer)

    return [build(sample) for sample in samples]


def test_text_ids_and_labels(examples, recorded):
    for index, example in enumerate(examples[:3]):
        assert example.text == str(recorded[f"s{index}_text"])
        assert np.array_equal(example.input_ids, recorded[f"s{index}_input_ids"])
        assert np.array_equal(example.labels, recorded[f"s{index}_labels"])


def test_labels_are_answers_and_their_end(examples, model):
    example = examples[2]
    supervised = model.tokenizer.decode(example.labels[example.labels != IGNORE])
    assert supervised == "There are three apples.<|im_end|>[(0.789, 0.012), (0.345, 0.678)]<|im_end|>"


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) >= 13, reason="tiles were recorded with Pillow < 13")
def test_batch(examples, recorded, model):
    batch = collate(examples[:3], model.tokenizer)
    for key in ("input_ids", "labels", "attention_mask"):
        assert np.array_equal(getattr(batch, key), recorded[f"batch_{key}"]), key
    for kind in ("image", "depth"):
        tiles = np.concatenate([picture.pixels for picture in getattr(batch, f"{kind}s")])
        assert np.array_equal(tiles, recorded[f"batch_{kind}_tiles_u8"])


@torch.no_grad()
def test_embedding_and_packing(examples, recorded, model):
    rows = embed_batch(model, collate(examples[:3], model.tokenizer))
    for row, labels, mask, total in zip(
        rows, recorded["embed_labels"], recorded["embed_attention_mask"], recorded["embed_sum_per_row"], strict=True
    ):
        assert np.array_equal(row.labels, labels[mask])
        assert float(row.embeddings.sum()) == pytest.approx(float(total), rel=1e-5)
    packed = pack(rows)
    assert packed.embeddings.shape == tuple(recorded["packed_embeds_shape"])
    for key in ("position_ids", "labels", "attention_mask"):
        assert np.array_equal(getattr(packed, key), recorded[f"packed_{key}"]), key


def test_loss_and_gradients(examples, recorded, model, fixtures):
    batch = collate(examples[:3], model.tokenizer)
    model.zero_grad()
    loss = model(batch)
    assert float(loss.detach()) == pytest.approx(float(recorded["loss"]), abs=1e-5)
    loss.backward()
    norms = json.loads((fixtures / "train_rgbd_3x3_dynamic_rgbd_gradnorms.json").read_text())
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert ours.keys() == norms.keys()
    for name, norm in norms.items():
        found = 0.0 if ours[name] is None else float(ours[name].norm())
        # Key biases shift all of a row's attention alike: their gradient is rounding noise.
        assert found == pytest.approx(norm or 0.0, rel=1e-3, abs=1e-6), name


@torch.no_grad()
def test_loss_per_token_over_the_global_step(examples, recorded, model):
    batch = collate(examples[:3], model.tokenizer)
    items = int(recorded["num_items_in_batch"])
    assert float(batch_loss(model, batch, items)) == pytest.approx(float(recorded["loss_num_items"]), abs=1e-5)
    alone = [batch_loss(model, collate([example], model.tokenizer), items) for example in examples[:3]]
    assert float(sum(alone)) == pytest.approx(float(recorded["loss"]), abs=1e-5)


def test_a_batch_without_pictures_reaches_every_part(examples, model):
    """Ranks that have no pictures must take part in the same collectives as those that have."""
    model.zero_grad()
    loss = model(collate([examples[3]], model.tokenizer))
    loss.backward()
    used = [name for name, p in model.named_parameters() if p.grad is not None]
    for part in ("llm", "vision_tower", "mm_projector", "depth_tower", "depth_projector"):
        assert any(name.startswith(f"{part}.") for name in used), part
    assert all(float(p.grad.abs().max()) == 0 for n, p in model.named_parameters() if "mm_projector" in n)


def split_word(tokenizer) -> dict[int, tuple[str, str]]:
    """Words that are one token, cut where the first part is one token, and where it is several."""
    found = {}
    for piece in sorted(tokenizer.get_vocab()):
        word = piece.removeprefix("Ġ")
        for cut in range(1, len(word)) if piece.startswith("Ġ") and word.isalpha() else ():
            found.setdefault(min(2, len(tokenizer(" " + word[:cut]).input_ids)), (word[:cut], word[cut:]))
    return found


def test_answers_that_merge_with_what_is_before_them(model):
    """A template's text may end in the middle of a token: one is allowed for, more mask the whole sample."""
    tokenizer = model.tokenizer
    words = split_word(tokenizer)
    for tokens, (head, answer) in words.items():
        messages = [("user", "x"), ("assistant", answer)]
        template = "{% for m in messages %}{{ m.role }}: " + head + "{{ m.content }}<|im_end|>{% endfor %}"
        tokenizer_own, tokenizer.chat_template = tokenizer.chat_template, template
        try:
            ids = torch.tensor(tokenizer(render_chat(tokenizer, messages, None, False)).input_ids)
            labels = label_answers(ids, messages, None, tokenizer)
        finally:
            tokenizer.chat_template = tokenizer_own
        supervised = tokenizer.decode(labels[labels != IGNORE])
        assert supervised == (f" {head}{answer}<|im_end|>" if tokens == 1 else "")
    assert set(words) == {1, 2}


@pytest.mark.parametrize("aspect", ["resize", "dynamic"])
@pytest.mark.parametrize("shown", [(1, 0), (2, 0), (2, 2)])
def test_prompts_as_they_are_asked(model, pictures, aspect, shown):
    images, depths = ([pictures(10 * kind + i) for i in range(count)] for kind, count in enumerate(shown))
    turns = [{"from": "human", "value": "<image>\n" * len(images) + "Where?"}, {"from": "gpt", "value": "here"}]
    asked = Prefiller(model, aspect).plan(Prompt("Where?", tuple(images), tuple(depths))).ids
    learned, inferred = (
        build_example(turns, images, depths, model.config, model.tokenizer, aspect, training_form)
        for training_form in (True, False)
    )
    assert tuple(inferred.input_ids[: len(asked)].tolist()) == asked
    assert (learned.text == inferred.text) == (bool(depths) and aspect == "dynamic")
    assert len(inferred.images) == len(images) and len(inferred.depths) == len(depths)
    assert (inferred.labels != IGNORE).sum() == (learned.labels != IGNORE).sum() > 0


def test_what_is_refused(model, pictures):
    turns = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "[(0.500, 0.500)]"}]
    image, small = pictures(0), pictures(1, 60, 45)

    def build(images, depths, conversation=turns):
        return build_example(conversation, images, depths, model.config, model.tokenizer)

    with pytest.raises(ValueError, match="one per image"):
        build([image, image], [image])
    with pytest.raises(ValueError, match="depth 0 has size"):
        build([image], [small])
    with pytest.raises(ValueError, match="turn 0"):
        build([image], [], [{"from": "robot", "value": "x"}])
    example = build([image], [image])
    with pytest.raises(ValueError, match="pictures"):
        collate([example], model.tokenizer, max_length=20)
    cut = collate([example], model.tokenizer, max_length=len(example.input_ids) - 4)
    assert cut.input_ids.shape[1] == len(example.input_ids) - 4
