"""LLaVA-OneVision: what it is shown, its loss, its files, and a run from a tiny checkpoint to the backend's answer."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from roboref_core.models.registry import load_vlm
from roboref_core.models.vision_language_model import Prompt
from safetensors.torch import load_file, save_file
from transformers import LlavaOnevisionForConditionalGeneration

from offline.files import read_picture
from offline.train.cli import main
from offline.train.dataset import TrainData, collator
from offline.train.families import family_of
from offline.train.families.roborefer.examples import IGNORE
from offline.train.inspection import inspect_run
from offline.train.network import load_network
from offline.train.plan import PARTS, load_plan
from offline.train.registry import Entry, Term
from offline.train.run import run, stage_data
from offline.train.test.tiny_onevision import write_checkpoint, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("onevision"))


@pytest.fixture(scope="module")
def plan(project):
    return load_plan(project)


@pytest.fixture(scope="module")
def data(plan):
    return stage_data(plan)[1]


@pytest.fixture
def dialogue(plan, tmp_path):
    """A sample made by hand, as an example."""

    def make(turns, names=(), **changes):
        sample = {
            "image": list(names),
            "conversations": [{"from": "gpt" if i % 2 else "human", "value": text} for i, text in enumerate(turns)],
        }
        (tmp_path / "data.json").write_text(json.dumps([sample]))
        entry = Entry(json=tmp_path / "data.json", image_root=plan.model.parent / "a" / "image")
        reader = family_of(plan.model).reader(plan.model_copy(update=changes))
        return TrainData([Term("d", entry)], reader, 0, "s", 8, 2).item(("d", 0)).example

    return make


@pytest.mark.parametrize("index", range(4))
def test_pictures_and_prompt_are_those_of_the_backend(data, plan, index):
    """One picture, two, a wide one, none: the same ids, pixels and sizes up to the answer."""
    vlm = load_vlm("llava_onevision", str(plan.model), device="cpu", dtype="float32", max_new_tokens=1)
    seen = {}
    generate = vlm._model.generate
    vlm._model.generate = lambda **inputs: (seen.update(inputs), generate(**inputs))[1]
    _, sample = data.sample(("a", index))
    names = [sample.get("image", [])] if isinstance(sample.get("image"), str) else sample.get("image", [])
    images = tuple(read_picture(plan.model.parent / "a" / "image" / name) for name in names)
    vlm.generate(Prompt(sample["conversations"][0]["value"].strip(), images))
    example = data.item(("a", index)).example
    length = seen["input_ids"].shape[1]
    assert torch.equal(example.input_ids[:length], seen["input_ids"][0])
    assert (example.labels[:length] == IGNORE).all() and (example.labels[length:] != IGNORE).all()
    assert len(example.sizes) == len(images)
    if images:
        assert torch.equal(example.pixels, seen["pixel_values"]) and torch.equal(example.sizes, seen["image_sizes"])


def test_every_answer_and_its_end_are_learned(dialogue, data):
    tokenizer = data.reader.tokenizer
    example = dialogue(["Where?", "[(0.1, 0.2)]", "And <image>now?", "NOT_VISIBLE"], ["a_0_0.png"])
    assert tokenizer.decode(example.labels[example.labels != IGNORE]) == "[(0.1, 0.2)]<|im_end|>NOT_VISIBLE<|im_end|>"
    shown = tokenizer.decode(example.input_ids).replace("<image>", "")
    assert shown == (
        "<|im_start|>user\nWhere?<|im_end|><|im_start|>assistant\n[(0.1, 0.2)]<|im_end|>"
        "<|im_start|>user\nAnd now?<|im_end|><|im_start|>assistant\nNOT_VISIBLE<|im_end|>"
    )


@pytest.mark.parametrize(("turns", "changes", "message"), [
    (["Where?"], {}, "no answer: there is no turn by gpt"),
    (["Where?", "  "], {}, "the answer is empty"),
    (["word " * 120, "here"], {}, "no answer within 512"),
    (["Where?", "here"], {"image_aspect_ratio": "resize"}, "image_aspect_ratio 'resize' is RoboRefer's"),
    (["Where?", "here"], {"prompt_form": "inference"}, "prompt_form 'inference' is RoboRefer's"),
    (["Where?", "here"], {"model_max_length": 513}, "takes 512 positions"),
])  # fmt: skip
def test_refused(dialogue, turns, changes, message):
    with pytest.raises(ValueError, match=message):
        dialogue(turns, **changes)


def test_depth_is_refused(data, plan):
    entry = Entry(
        json=plan.model.parent / "a" / "data.json",
        image_root=plan.model.parent / "a" / "image",
        depth_root=plan.model.parent / "a" / "depth",
    )
    deep = TrainData([Term("a", entry)], data.reader, 0, "s", 8, 2)
    with pytest.raises(ValueError, match="takes no depth pictures"):
        deep.item(("a", 0))


@pytest.mark.parametrize("keys", [[0, 1, 2, 3], [3], [1, 3]])
def test_loss_is_that_of_transformers(data, plan, keys):
    """Row by row by the model's own forward pass; a batch without pictures too, through the tower that it idles."""
    items = [data["a", key] for key in keys]
    batch = collator(data.reader)(items)
    network = load_network(plan, PARTS, None).train()
    loss = network(batch.batch, batch.supervised)
    loss.backward()
    assert not [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    own = LlavaOnevisionForConditionalGeneration.from_pretrained(plan.model, dtype=torch.float32)
    total = 0.0
    for item in items:
        example = item.example
        shown = (
            {}
            if example.pixels is None
            else {
                "pixel_values": example.pixels,
                "image_sizes": example.sizes,
                "batch_num_images": torch.tensor([len(example.sizes)]),
            }
        )
        out = own(input_ids=example.input_ids[None], labels=example.labels[None], **shown)
        total += out.loss * item.counts.supervised
    assert loss.item() == pytest.approx(total.item() / batch.supervised, rel=1e-5)
    assert batch.text + batch.visual == sum(len(item.example.input_ids) for item in items)


@pytest.fixture(scope="module")
def trained(project):
    assert main(["check", str(project)]) == 0
    run(load_plan(project, {"save_every": 1, "keep": 9}))
    return project.parent / "run"


def test_a_run(trained, plan):
    assert inspect_run(trained).errors == []
    before, middle, after = (
        load_file(folder / "model.safetensors")
        for folder in (plan.model, trained / "checkpoint-2" / "model", trained / "model")
    )
    assert list(before) == list(after)
    learned = {name for name in before if not torch.equal(before[name], middle[name])}
    assert learned == {name for name in before if name.startswith(("multi_modal_projector", "image_newline"))}
    for file in plan.model.iterdir():
        if file.suffix != ".safetensors":
            assert (trained / "model" / file.name).read_bytes() == file.read_bytes(), file.name
    vlm = load_vlm("llava_onevision", str(trained / "model"), device="cpu", dtype="float32")
    assert all(torch.equal(after[name], vlm._model.state_dict()[_in_memory(name)]) for name in after)


def _in_memory(name: str) -> str:
    """transformers' name of a published tensor."""
    for ours, theirs in (
        ("language_model.lm_head.", "lm_head."),
        ("language_model.model.", "model.language_model."),
        ("vision_tower.vision_model.", "model.vision_tower."),
    ):
        if name.startswith(ours):
            return name.replace(ours, theirs, 1)
    return name if name.startswith("lm_head.") else f"model.{name}"


@pytest.mark.parametrize("step", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_resumes_to_the_bit(trained, project, tmp_path, step):
    shutil.copytree(trained / f"checkpoint-{step}", tmp_path / "run" / f"checkpoint-{step}")
    run(load_plan(project, {"output": str(tmp_path / "run")}))
    names = [file.name for file in (trained / "model").iterdir()]
    assert "model.safetensors" in names and "chat_template.jinja" in names
    for name in names:
        assert (tmp_path / "run" / "model" / name).read_bytes() == (trained / "model" / name).read_bytes(), name


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_lora_and_other_precisions(project, tmp_path, tied):
    """Adapters alone learn, and a bfloat16 base stays one; a tied output layer stays out of the file."""
    base = write_checkpoint(tmp_path / "base", tied)
    tensors = load_file(base / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in tensors.items()}, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    assert tied != any("lm_head" in name for name in tensors)
    stages = [{"name": "s", "mixture": "a", "until_step": 2, "train": ["llm"], "lr": 5e-2}]
    changes = {"model": str(base), "stages": stages, "lora": {"r": 4, "lora_alpha": 8}, "save_every": 1, "keep": 9}
    for name in ("whole", "again"):
        run(load_plan(project, changes | {"output": str(tmp_path / name)}))
        if name == "whole":
            shutil.copytree(tmp_path / "whole" / "checkpoint-1", tmp_path / "again" / "checkpoint-1")
    whole, again = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "again"))
    before = load_file(base / "model.safetensors")
    assert whole.keys() == before.keys() and all(t.dtype == torch.bfloat16 for t in whole.values())
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    changed = {name for name in before if not torch.equal(before[name], whole[name])}
    assert changed == {name for name in before if "language_model" in name and name.endswith("_proj.weight")}
    assert (tmp_path / "whole" / "model" / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert json.loads((tmp_path / "whole" / "checkpoint-2" / "model" / "config.json").read_text())["dtype"] == "float32"
    assert inspect_run(tmp_path / "whole").errors == []


@pytest.mark.slow
def test_it_learns_and_the_backend_answers(project, tmp_path):
    """Four questions by heart: the backend, which sees the pictures through its own code, answers all of them."""
    samples = json.loads((project.parent / "a" / "data.json").read_text())[:4]
    (tmp_path / "four.json").write_text(json.dumps(samples))
    raw = yaml.safe_load(project.read_text()) | {
        "model": str(project.parent / "base"),
        "data_path": "four.json",
        "output": "run",
        "log_every": 50,
        "image_folder": str(project.parent / "a" / "image"),
        "lr_schedule": "constant",
        "micro_batch": 4,
        "stages": [{"name": "s", "until_step": 100, "train": ["llm", "vision_tower", "mm_projector"], "lr": 1e-2}],
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(raw))
    run(load_plan(tmp_path / "plan.yaml"))
    vlm = load_vlm("llava_onevision", str(tmp_path / "run" / "model"), device="cpu", max_new_tokens=20)
    for sample in samples:
        question, answer = (turn["value"] for turn in sample["conversations"])
        names = sample.get("image", [])
        images = [
            read_picture(project.parent / "a" / "image" / name)
            for name in ([names] if isinstance(names, str) else names)
        ]
        assert vlm.generate(Prompt(question.strip(), tuple(images))).text == answer


def test_an_unknown_kind_of_model(plan, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(ValueError, match="expected model_type llava_llama or llava_onevision, found 'llava'"):
        family_of(tmp_path)
