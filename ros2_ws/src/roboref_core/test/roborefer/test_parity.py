"""Inference against recordings of the reference."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
import torch
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.decoding.generate import greedy
from roboref_core.models.roborefer.decoding.prefill import Prefiller
from roboref_core.models.roborefer.decoding.tree import TokenTree, decode
from roboref_core.models.roborefer.network import media
from roboref_core.models.roborefer.network.tiling import Tiles, cut_tiles, to_picture
from roboref_core.models.roborefer.prompt_text import stop_ids
from torch import nn

OLD_PILLOW = int(PIL.__version__.split(".")[0]) < 13
KINDS = ("image", "depth")


def recorded_tiles(recording, kind) -> list[Tiles]:
    """The recorded tiles, one picture each; all of them one picture for S2, which has its block size."""
    if f"{kind}_tiles_u8" not in recording.data:
        return []
    pixels, blocks = recording.data[f"{kind}_tiles_u8"], recording.data.get(f"{kind}_block_sizes")
    return [Tiles(pixels, tuple(blocks[0]))] if blocks is not None else [Tiles(tile[None]) for tile in pixels]


def selected(model, recording, kind) -> torch.Tensor:
    config = model.config
    tower = model.part(f"{'vision' if kind == 'image' else 'depth'}_tower").vision_model
    pixels = torch.from_numpy(recording.data[f"{kind}_tiles_u8"])
    pixels = media.normalise(pixels, config.processor(kind), torch.float32)
    return media.tower_features(tower, pixels, config.root.mm_vision_select_layer, "cls_patch")


def difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float(np.abs(ours.numpy() - theirs).max())


def embed(model, recording) -> torch.Tensor:
    media_of = {}
    for kind in KINDS:
        if pictures := recorded_tiles(recording, kind):
            media_of[kind] = [tokens for features in model.encode(pictures, kind) for tokens in features]
    return model.insert_media(recording.data["input_ids"].tolist(), media_of)[0]


@torch.inference_mode()
def test_vision_projector_and_embeddings(recording, models):
    model = models(recording.checkpoint)
    for kind in KINDS:
        if pictures := recorded_tiles(recording, kind):
            assert difference(selected(model, recording, kind), recording.data[f"{kind}_vision_selected"]) < 1e-5
            features = [tokens for picture in model.encode(pictures, kind) for tokens in picture]
            assert [len(tokens) for tokens in features] == recording.data[f"{kind}_media_lens"].tolist()
            assert difference(torch.cat(features), recording.data[f"{kind}_media_embeds"]) < 1e-5
    assert difference(embed(model, recording), recording.data["inputs_embeds"]) < 1e-5


@torch.inference_mode()
def test_logits(recording, models):
    model = models(recording.checkpoint)
    assert difference(model.llm(inputs_embeds=embed(model, recording)[None]).logits[0], recording.data["logits"]) < 1e-4


@pytest.mark.skipif(not OLD_PILLOW, reason="tiles were recorded with Pillow < 13, which resizes differently")
def test_tiles_are_exact(recording, models):
    config = models(recording.checkpoint).config
    for kind in KINDS:
        if pictures := recording.pictures(kind):
            tiles = [cut_tiles(to_picture(p, kind), config, kind, recording.aspect) for p in pictures]
            assert np.array_equal(np.concatenate([t.pixels for t in tiles]), recording.data[f"{kind}_tiles_u8"])


def test_tiles_are_close_with_any_pillow(recording, models):
    config = models(recording.checkpoint).config
    for kind in KINDS:
        if pictures := recording.pictures(kind):
            tiles = [cut_tiles(to_picture(p, kind), config, kind, recording.aspect) for p in pictures]
            ours = np.concatenate([t.pixels for t in tiles]).astype(int)
            off = np.abs(ours - recording.data[f"{kind}_tiles_u8"])
            assert off.mean() <= 0.5 and off.max() <= 16


@torch.inference_mode()
def test_prompt_and_greedy_tokens_from_raw_pictures(recording, models):
    model = models(recording.checkpoint)
    prefiller = Prefiller(model, recording.aspect)
    plan = prefiller.plan(recording.prompt)
    assert plan.text == str(recording.data["prompt_text"])
    assert plan.ids == tuple(recording.data["input_ids"])
    assert plan.length == len(recording.data["inputs_embeds"])
    tree = TokenTree(model, prefiller.compute([plan]))
    stops = stop_ids(model.tokenizer, model.config.root.chat_template)
    (tokens,) = decode(tree, [greedy(prefiller.tail_nodes(plan, 0), stops, 16)])
    assert tokens == recording.data["generated_ids"].tolist()


def test_free_answer(recording):
    backend = RoboReferBackend.load(recording.checkpoint, decoding="free", aspect=recording.aspect, max_new_tokens=16)
    generation = backend.generate(recording.prompt)
    assert generation.text == str(recording.data["response"])
    assert generation.p_visible is None and generation.scores is None


@torch.inference_mode()
def test_step_logits_along_the_answer(recording, models):
    """Logits of every step, given the recorded tokens: what greedy decoding alone would hide."""
    model = models(recording.checkpoint)
    prefiller = Prefiller(model, recording.aspect)
    plan = prefiller.plan(recording.prompt)
    tree = TokenTree(model, prefiller.compute([plan]))
    prompt = prefiller.tail_nodes(plan, 0)
    tree.evaluate(prompt)
    steps = [prompt[-1], *prompt[-1].chain(recording.data["generated_ids"][:-1].tolist())]
    tree.evaluate(steps[1:])
    assert difference(torch.stack([node.logits for node in steps]), recording.data["step_logits"]) < 1e-4


class TestNegativeControls:
    """Deliberate mistakes, each of which the tolerances above must notice."""

    @pytest.fixture
    def case(self, models, fixtures):
        data = dict(np.load(fixtures / "infer_rgbd_3x3_dynamic_rgb.npz"))
        return models(fixtures / "ckpt_rgbd_3x3"), data

    @staticmethod
    def off(model, data, pixels=None, layer=-2, feature="cls_patch", projector=None) -> float:
        with torch.inference_mode():
            pixels = torch.from_numpy(data["image_tiles_u8"] if pixels is None else pixels)
            pixels = media.normalise(pixels, model.config.image_processor, torch.float32)
            tower = model.part("vision_tower").vision_model
            features = media.tower_features(tower, pixels, layer, feature)
            return difference((projector or model.mm_projector)(features), data["image_projector_out"])

    def test_without_a_mistake(self, case):
        assert self.off(*case) < 1e-5

    def test_last_layer(self, case):
        assert self.off(*case, layer=-1) > 1e-2

    def test_channel_order_of_the_picture(self, case):
        assert self.off(*case, pixels=np.ascontiguousarray(case[1]["image_tiles_u8"][:, ::-1])) > 1e-2

    def test_channel_order_of_space_to_depth(self, case):
        model, data = case
        first, *rest = model.mm_projector.layers

        def swapped(features):
            blocks = first(features)
            batch, count, _ = blocks.shape
            blocks = blocks.view(batch, count, 9, -1).transpose(2, 3).reshape(batch, count, -1)
            return nn.Sequential(*rest)(blocks)

        assert self.off(model, data, projector=swapped) > 1e-2

    def test_padding_at_the_start(self, case):
        model, data = case
        first, *rest = model.mm_projector.layers

        def padded_first(features):
            return nn.Sequential(*rest)(first(features.flip(1)).flip(1))

        def shifted(features):
            batch, count, channels = features.shape
            side = int(count**0.5)
            grid = nn.functional.pad(features.view(batch, side, side, channels), (0, 0, 1, 0, 1, 0))
            return nn.Sequential(*rest)(first(grid.reshape(batch, (side + 1) ** 2, channels)))

        assert self.off(model, data, projector=shifted) > 1e-2
        assert self.off(model, data, projector=padded_first) > 1e-2

    def test_tanh_gelu(self, case):
        model, data = case
        layers = [nn.GELU("tanh") if isinstance(layer, nn.GELU) else layer for layer in model.mm_projector.layers]
        assert self.off(model, data, projector=nn.Sequential(*layers)) > 1e-4
