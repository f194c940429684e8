from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.hugging_face import HuggingFaceModel
from roboref_core.models.vision_language_model import Prompt, VisionLanguageModel
from roboref_core.prompting.conventions import Convention
from roboref_core.prompting.prompt import correspondence

CONVENTION = {"llava_onevision": Convention.NORMALISED, "qwen_vl": Convention.PIXELS}


@pytest.fixture(params=list(CONVENTION))
def model(request):
    folder = request.getfixturevalue(request.param)
    return HuggingFaceModel(folder, CONVENTION[request.param], device="cpu", max_new_tokens=6)


def test_every_family_answers_none_one_and_two_pictures(model, picture):
    assert isinstance(model, VisionLanguageModel)
    for images in ((), (picture(60, 40),), (picture(60, 40), picture(31, 45, seed=1))):
        generation = model.generate(Prompt(correspondence(), images))
        assert isinstance(generation.text, str) and set(generation.timings) == {"preprocess", "generate"}
        assert generation.points.shape[1] == 2


def test_the_answer_depends_on_the_pictures_and_their_order(model, picture):
    a, b = picture(60, 40), picture(60, 40, seed=1)
    texts = {model.generate(Prompt("Where?", images)).text for images in ((a,), (b,), (a, b), (b, a))}
    assert len(texts) > 1


def test_a_batch_gives_what_single_questions_give(model, picture):
    prompts = [
        Prompt("Where is it?", (picture(60, 40),)),
        Prompt("And where, in this much longer question, is the other one?", (picture(31, 45), picture(50, 50))),
        Prompt("Short"),
    ]
    single = [model.generate(prompt).text for prompt in prompts]
    assert [generation.text for generation in model.generate_batch(prompts)] == single
    assert model.generate_batch([]) == []


def test_the_greedy_text_is_that_of_transformers_own_pipeline(llava_onevision, picture):
    import torch
    from transformers import LlavaOnevisionForConditionalGeneration

    model = HuggingFaceModel(llava_onevision, Convention.NORMALISED, device="cpu", max_new_tokens=6)
    reference = LlavaOnevisionForConditionalGeneration.from_pretrained(llava_onevision)
    image = picture(60, 40)
    processor = model.processor
    text = "<|im_start|>user\n<image>Where?<|im_end|>\n<|im_start|>assistant\n"
    inputs = processor(images=image, text=text, return_tensors="pt")
    with torch.no_grad():
        out = reference.generate(**inputs, max_new_tokens=6, do_sample=False)
    expected = processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert model.generate(Prompt("Where?", (image,))).text == expected


def test_pixels_are_those_of_the_processor_s_own_size(qwen_vl, picture, monkeypatch):
    model = HuggingFaceModel(qwen_vl, "pixels", device="cpu", max_new_tokens=1)
    image = picture(100, 47)
    inputs = model.processor.image_processor(images=[image], return_tensors="pt")
    _, rows, columns = inputs["image_grid_thw"][0].tolist()
    asked = {}
    original = model._inputs

    def recording(prompts, sizes):
        asked["sizes"] = sizes
        return original(prompts, sizes)

    monkeypatch.setattr(model, "_inputs", recording)
    monkeypatch.setattr(model, "_decode", lambda *_: [(f"[({columns * 7}, {rows * 7})]", True)])
    generation = model.generate(Prompt(correspondence(), (picture(30, 30), image)))
    assert asked["sizes"] == [(columns * 14, rows * 14)]
    np.testing.assert_allclose(generation.points, [[0.5, 0.5]])


def test_pixels_need_a_processor_that_tells_its_size(llava_onevision):
    with pytest.raises(ValueError, match="state another convention"):
        HuggingFaceModel(llava_onevision, "pixels", device="cpu")


def test_prompts_beyond_the_context_are_refused_and_the_model_stays_usable(model, picture):
    with pytest.raises(ReferError, match="tokens") as error:
        model.generate(Prompt("x" * 5000, (picture(40, 40),)))
    assert error.value.code == ErrorCode.INVALID_QUERY
    assert model.generate(Prompt("Where?", (picture(40, 40),))).text is not None


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "config.json"),
        ("preprocessor_config.json", "image processor|preprocessor"),
        ("chat_template.jinja", "chat template"),
    ],
)
def test_incomplete_checkpoints_are_named(llava_onevision, tmp_path, missing, message):
    folder = tmp_path / "copy"
    shutil.copytree(llava_onevision, folder)
    (folder / missing).unlink()
    with pytest.raises((ValueError, OSError), match=message):
        HuggingFaceModel(folder, "normalised", device="cpu")


def test_models_that_are_not_image_text_to_text_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ValueError, match="qwen2"):
        HuggingFaceModel(tmp_path, "normalised", device="cpu")
