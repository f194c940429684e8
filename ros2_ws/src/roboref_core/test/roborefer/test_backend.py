"""Reuse, batches and errors of the backend."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.cancellation import Cancellation
from roboref_core.models.options import ModelOptions
from roboref_core.models.roborefer import RoboReferBackend, calibration
from roboref_core.models.roborefer.asking import Asking
from roboref_core.models.roborefer.checkpoint.files import load_model, save_checkpoint
from roboref_core.models.roborefer.decoding.cache import ByteBoundedCache
from roboref_core.models.roborefer.decoding.generate import greedy
from roboref_core.models.roborefer.decoding.tree import TokenTree, decode
from roboref_core.models.roborefer.errors import (
    CheckpointError,
    DeviceOutOfMemoryError,
    NonFiniteLogitsError,
    PromptTooLongError,
)
from roboref_core.models.vision_language_model import Generation, Prompt, VisionLanguageModel

S2 = {
    "projector": "mlp_downsample", "image_size": 56, "aspect": "dynamic_s2", "scales": (56, 112, 168), "tied": False,
}  # fmt: skip
LAYOUTS = {"own tower": {}, "shared tower": {"depth": "shared"}, "S2": S2, "resize": {"aspect": "resize"}}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


@pytest.fixture
def prompts(pictures):
    """Mixed lengths, numbers of pictures, and depth; two of them on the same views."""
    a, b, c = (pictures(i, *size) for i, size in enumerate([(120, 90), (60, 150), (100, 100)]))
    d, e = pictures(10, 120, 90, 1), pictures(11, 60, 150)
    return [
        Prompt("Where is the cup?", (a, b)),
        Prompt("What is a mug?"),
        Prompt("Where is it now? " * 8, (a, b)),
        Prompt("Point to it.", (a, b), (d, e)),
        Prompt("Is it visible?", (c,)),
        Prompt("Point to it.", (a, b, c)),
    ]


def assert_same(one: Generation, other: Generation, exact: bool = True) -> None:
    assert one.text == other.text and one.outcome == other.outcome
    close = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-2, "atol": 1e-4}
    for key in ("points", "point_covariance", "scores", "p_visible"):
        np.testing.assert_allclose(getattr(one, key), getattr(other, key), **close, err_msg=key)


def test_is_a_vision_language_model(random_backend):
    backend = random_backend()
    assert isinstance(backend, VisionLanguageModel)
    name, revision = backend.name.split("@")
    assert name and len(revision) == 12 and int(revision, 16)


@pytest.mark.parametrize("decoding", ["pointing", "free"])
def test_stops_between_two_passes_when_nobody_waits(random_backend, pictures, decoding, monkeypatch):
    backend = random_backend(decoding=decoding, **({"max_new_tokens": 50} if decoding == "free" else {}))
    prompt = Prompt("Where is the cup?", (pictures(0, 120, 90),), cancellation=Cancellation())
    evaluate, passes = TokenTree.evaluate, []

    def counted(tree, nodes):
        passes.append(len(nodes))
        if len(passes) == 2:
            prompt.cancellation.cancel()
        evaluate(tree, nodes)

    monkeypatch.setattr(TokenTree, "evaluate", counted)
    with pytest.raises(ReferError) as error:
        backend.generate(prompt)
    assert error.value.code is ErrorCode.CANCELED and len(passes) == 2
    backend.generate(replace(prompt, cancellation=None))
    assert len(passes) > 4, "there was more to come"


def test_cached_equals_uncached_to_the_last_bit(random_backend, layout, prompts):
    cached, uncached = random_backend(layout, candidates=3), random_backend(layout, candidates=3, cache_bytes=0)
    for prompt in [*prompts, *reversed(prompts)]:
        assert_same(cached.generate(prompt), uncached.generate(prompt))
    assert cached.prefiller.prefixes.hits and not len(uncached.prefiller.prefixes)


def test_a_reference_view_is_encoded_once(random_backend, prompts, pictures, monkeypatch):
    backend = random_backend()
    encoded = []
    encode = backend.model.encode
    monkeypatch.setattr(backend.model, "encode", lambda tiles, kind: encoded.append(kind) or encode(tiles, kind))
    reference, first, second = pictures(0), pictures(1), pictures(2)
    backend.generate(Prompt("Where is it?", (reference, first)))
    assert len(encoded) == 2
    backend.generate(Prompt("Where is it?", (reference, second)))
    assert len(encoded) == 3
    # Elsewhere in the prompt its keys and values differ, its features do not.
    backend.generate(Prompt("Where is it?", (second, reference)))
    assert len(encoded) == 3
    backend.generate(Prompt("Another question?", (second, reference)))
    assert len(encoded) == 3


def test_a_batch_shares_its_views_without_a_cache(random_backend, pictures, monkeypatch):
    backend = random_backend(cache_bytes=0)
    encoded = []
    encode = backend.model.encode
    monkeypatch.setattr(backend.model, "encode", lambda tiles, kind: encoded.append(kind) or encode(tiles, kind))
    views = (pictures(0), pictures(1))
    questions = [Prompt(f"Where is the {name}?", views) for name in ("cup", "red thing", "left one")]
    backend.generate_batch(questions)
    assert len(encoded) == 2


@pytest.mark.parametrize("decoding", ["pointing", "free"])
def test_a_batch_answers_as_one_by_one(random_backend, layout, prompts, decoding):
    backend = random_backend(layout, decoding=decoding, max_new_tokens=8)
    together = backend.generate_batch(prompts)
    assert len(together) == len(prompts) and backend.generate_batch([]) == []
    for prompt, answer in zip(prompts, together, strict=True):
        alone = backend.generate(prompt)
        if decoding == "free":
            assert answer.text == alone.text
        else:
            assert_same(answer, alone, exact=False)


def test_depth_is_seen(random_backend, layout, pictures):
    backend = random_backend(layout)
    assert backend.uses_depth
    image, near, far = pictures(0), np.full((90, 120), 255, np.uint8), np.zeros((90, 120, 1), np.uint8)
    answers = [backend.generate(Prompt("Where?", (image,), depths)) for depths in ((), (near,), (far,))]
    assert len({answer.p_visible for answer in answers}) == 3


class TestErrors:
    """The model answers afterwards as it did before."""

    @pytest.fixture
    def backend(self, random_backend):
        return random_backend()

    @pytest.fixture
    def usable(self, backend, prompts):
        before = backend.generate(prompts[0])
        yield
        assert_same(backend.generate(prompts[0]), before)

    def test_prompt_over_the_context(self, random_backend, usable, pictures):
        small = random_backend({"max_length": 200})
        with pytest.raises(PromptTooLongError, match="context of 200") as error:
            small.generate(Prompt("word " * 300))
        assert isinstance(error.value, ReferError) and error.value.code is ErrorCode.INVALID_QUERY
        with pytest.raises(PromptTooLongError):
            small.generate(Prompt("Where?", (pictures(0),) * 3))
        assert small.generate(Prompt("Where?")).text

    def test_free_answer_ends_at_the_context(self, random_backend):
        small = random_backend({"max_length": 200}, decoding="free")
        plan = small.prefiller.plan(Prompt("Where?"))
        with torch.inference_mode():
            tree = TokenTree(small.model, small.prefiller.compute([plan]))
            (tokens,) = decode(tree, [greedy(small.prefiller.tail_nodes(plan, 0), (), 200 - plan.length)])
        assert len(tokens) == 200 - plan.length

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_non_finite_logits(self, backend, usable, prompts, value):
        weight = backend.model.llm.model.norm.weight
        kept = weight.detach().clone()
        with torch.no_grad():
            weight[3] = value
        with pytest.raises(NonFiniteLogitsError, match="non-finite") as error:
            backend.generate(prompts[1])
        assert error.value.code is ErrorCode.INFERENCE_FAILED
        with torch.no_grad():
            weight.copy_(kept)

    @pytest.mark.parametrize("memory", ["host", "device"])
    def test_out_of_memory(self, backend, usable, prompts, monkeypatch, memory):
        def fail(*_, **__):
            if memory == "device":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            # The allocator itself: no machine has so much.
            return torch.empty(2**60)

        with monkeypatch.context() as patch:
            patch.setattr(backend.model.llm.model.layers[0].mlp, "forward", fail)
            with pytest.raises(DeviceOutOfMemoryError, match=r"alloc") as error:
                backend.generate(prompts[0])
        assert error.value.code is ErrorCode.OUT_OF_MEMORY

    def test_other_errors_are_not_disguised(self, backend, usable, prompts, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        with monkeypatch.context() as patch:
            patch.setattr(backend.model.llm.model.layers[0].mlp, "forward", fail)
            with pytest.raises(RuntimeError, match="mat1"):
                backend.generate(prompts[0])

    def test_pictures_that_are_none(self, backend, usable, pictures):
        with pytest.raises(ValueError, match="image picture"):
            backend.generate(Prompt("Where?", (pictures(0)[..., 0],)))
        with pytest.raises(ValueError, match="depth picture"):
            backend.generate(Prompt("Where?", (pictures(0),), (pictures(0).astype(np.float32),)))

    def test_depth_without_a_depth_tower(self, random_backend, pictures):
        backend = random_backend({"depth": "none"})
        assert not backend.uses_depth
        with pytest.raises(ValueError, match="without depth"):
            backend.generate(Prompt("Where?", (pictures(0),), (pictures(1),)))

    @pytest.mark.parametrize(
        "text", ["<image>", "a <depth> b", "<ima<image>ge>", "<vila/video>", "<vila/sentinel>", ""]
    )
    def test_placeholders_in_the_text_are_no_pictures(self, backend, pictures, text):
        for images in ((), (pictures(0),)):
            assert backend.generate(Prompt(text, images)).text

    @pytest.mark.parametrize(
        "options",
        [{"decoding": "beam"}, {"max_points": 0}, {"candidates": 0}, {"cache_bytes": -1}, {"max_new_tokens": 0}],
    )
    def test_options(self, random_backend, options):
        with pytest.raises(ValueError, match="found"):
            random_backend(**options)


class TestCalibration:
    def test_is_used_and_marked(self, random_checkpoint, pictures, tmp_path):
        path = random_checkpoint(depth="none")
        plain = RoboReferBackend.load(path)
        fitted = calibration.Calibration(
            temperature=2.0, bias=0.5, samples=50, nll_before=1.0, nll_after=0.5, model=plain.name
        )
        file = path / calibration.FILE_NAME
        try:
            calibration.save(fitted, path)
            calibrated = RoboReferBackend.load(path)
            prompt = Prompt("Where?", (pictures(0),))
            raw, answer = plain.generate(prompt), calibrated.generate(prompt)
            assert not raw.p_visible_calibrated and answer.p_visible_calibrated
            odds = np.log(raw.p_visible / (1 - raw.p_visible))
            assert answer.p_visible == pytest.approx(1 / (1 + np.exp(-(odds / 2 + 0.5))), rel=1e-6)
            moved = plain.name.replace(path.name, "elsewhere")
            calibration.save(fitted.model_copy(update={"model": moved}), path)
            assert RoboReferBackend.load(path).generate(prompt).p_visible == answer.p_visible
            calibration.save(fitted.model_copy(update={"model": "other@0"}), path)
            with pytest.raises(CheckpointError, match="fit it again"):
                RoboReferBackend.load(path)
            file.write_text('{"temperature": -1}')
            with pytest.raises(CheckpointError, match=calibration.FILE_NAME):
                RoboReferBackend.load(path)
        finally:
            file.unlink()

    @given(st.floats(0.3, 5), st.floats(-2, 2), st.integers(0, 9))
    def test_recovers_what_generated_the_labels(self, temperature, bias, seed):
        rng = np.random.default_rng(seed)
        odds = rng.normal(0, 4, 4000)
        labels = rng.random(4000) < 1 / (1 + np.exp(-(odds / temperature + bias)))
        found = calibration.fit(odds, labels, "m")
        assert found.temperature == pytest.approx(temperature, rel=0.25)
        assert found.bias == pytest.approx(bias, abs=0.4)
        assert found.nll_after <= found.nll_before + 1e-9

    def test_separable_labels_have_a_finite_fit(self):
        odds = np.concatenate([np.full(20, -3.0), np.full(20, 3.0)])
        found = calibration.fit(odds, odds > 0, "m")
        assert 0 < found.temperature < 1 and found.nll_after < found.nll_before

    @pytest.mark.parametrize(
        "labels", [np.ones(20, bool), np.zeros(20, bool), np.ones(3, bool)], ids=["all", "none", "few"]
    )
    def test_too_little_to_fit(self, labels):
        with pytest.raises(ValueError, match="needs at least"):
            calibration.fit(np.linspace(-1, 1, len(labels)), labels, "m")

    def test_the_wrong_way_round(self):
        odds = np.linspace(-4, 4, 50)
        with pytest.raises(ValueError, match="wrong way"):
            calibration.fit(odds, odds < 0, "m")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_on_any_processor(random_backend, pictures, dtype):
    """Whether or not it has instructions for it. A tower's sums in half precision are off by a few thousandths."""
    prompts = [Prompt(text, (pictures(k),)) for k, text in enumerate(("Where is the cup?", "The left one"))]
    exact, half = random_backend(dtype=torch.float32), random_backend(dtype=dtype)
    for prompt in prompts:
        assert half.generate(prompt).p_visible == pytest.approx(exact.generate(prompt).p_visible, abs=0.02)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=40), st.integers(0, 60))
def test_cache_is_bounded_and_keeps_the_latest(operations, bound):
    cache = ByteBoundedCache(bound)
    latest: dict[int, int] = {}
    for key, size in operations:
        cache.put(key, size, size)
        latest.pop(key, None)
        if size <= bound:
            latest[key] = size
        while sum(latest.values()) > bound:
            latest.pop(next(iter(latest)))
        assert cache.nbytes == sum(latest.values()) <= bound and len(cache) == len(latest)
    assert {key: cache.get(key) for key in latest} == latest


def test_a_checkpoint_is_asked_as_what_travels_with_it_says(tmp_path):
    source = Path(__file__).parent / "fixtures/ckpt_rgbd_3x3"
    folder = tmp_path / "tuned"
    shutil.copytree(source, folder)
    assert RoboReferBackend.load(folder).uses_depth
    Asking(depth=False, plan={"model": "x"}).save(folder)
    assert not RoboReferBackend.load(folder).uses_depth
    assert RoboReferBackend.load(folder, use_depth=True).uses_depth
    assert not ModelOptions("roborefer", str(folder), device="cpu").load_vlm().uses_depth
    again = ModelOptions("roborefer", str(folder), device="cpu", options=("use_depth=true", "calibrated=false"))
    assert again.load_vlm().uses_depth
    save_checkpoint(load_model(folder), folder, tmp_path / "again")
    assert not RoboReferBackend.load(tmp_path / "again").uses_depth
    (folder / "asking.json").write_text('{"depht": false}')
    with pytest.raises(CheckpointError, match=r"asking\.json"):
        RoboReferBackend.load(folder)
