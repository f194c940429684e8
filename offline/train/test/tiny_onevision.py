"""A tiny LLaVA-OneVision checkpoint, with the tensor names and files of the published ones, and a project on it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from offline.train.test.tiny import write_data

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
# As in the published checkpoints: pictures first, a line before each text, nothing behind an answer's end.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}{% for c in m['content'] if c['type'] == 'image' %}<image>"
    "{% endfor %}{% for c in m['content'] if c['type'] == 'text' %}{{ '\\n' + c['text'] }}{% endfor %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SIDE, PATCH = 28, 14


def write_checkpoint(folder: Path, tied: bool = False) -> Path:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<image>", "<video>"],
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = transformers.LlavaOnevisionConfig(
        text_config=transformers.Qwen2Config(
            vocab_size=256 + len(SPECIAL) + 3,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
        ),
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=PATCH,
            vision_use_head=False,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[28, 28], [28, 56], [56, 28], [56, 56]],
        vision_feature_layer=-1,
        vision_aspect_ratio="anyres_max_4",
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = transformers.LlavaOnevisionForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    published = {name.replace("vision_tower.", "vision_tower.vision_model."): t for name, t in tensors.items()}
    assert any(name.startswith("language_model.model.") for name in published)
    save_file(published, folder / "model.safetensors", metadata={"format": "pt"})
    LlavaOnevisionImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=config.image_grid_pinpoints
    ).save_pretrained(folder)
    (folder / "processor_config.json").write_text(
        json.dumps(
            {
                "processor_class": "LlavaOnevisionProcessor",
                "num_image_tokens": (SIDE // PATCH) ** 2,
                "vision_feature_select_strategy": "full",
                "vision_aspect_ratio": "anyres_max_4",
            }
        )
    )
    return folder


def write_project(folder: Path, tied: bool = False) -> Path:
    """A model, a registry with "a" (one, two and wide pictures, text) and "c" (text), and a plan of two stages."""
    write_checkpoint(folder / "base", tied)
    registry = {}
    for name, count, kinds in (("a", 8, ("rgbd", "two", "concat", "text")), ("c", 3, ("text",))):
        write_data(folder / name, count, kinds, seed=ord(name))
        registry[name] = {"json": f"{name}/data.json", "image_root": f"{name}/image", "convention": "normalised"}
    (folder / "datasets.yaml").write_text(yaml.safe_dump(registry))
    plan = {
        "model": "base",
        "registry": "datasets.yaml",
        "output": "run",
        "batch": 4,
        "micro_batch": 2,
        "precision": "fp32",
        "save_every": 100,
        "report_to": [],
        "window": 8,
        "group": 2,
        "stages": [
            {"name": "projector", "mixture": "a", "until_step": 2, "train": ["mm_projector"], "lr": 1e-2},
            {
                "name": "all",
                "mixture": "a+c",
                "until_step": 5,
                "train": ["llm", "vision_tower", "mm_projector"],
                "lr": {"llm": 3e-3, "vision_tower": 1e-3, "mm_projector": 5e-3},
            },
        ],
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path
