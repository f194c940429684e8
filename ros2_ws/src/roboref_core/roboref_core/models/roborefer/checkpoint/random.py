"""Checkpoints of any size with random weights, in the published layout: for tests, benchmarks and dry runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from roboref_core.models.roborefer.checkpoint.config import read_config, write_json
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.prompt_text import DEPTH, IMAGE, SENTINEL, SYSTEM_PROMPT, VIDEO
from roboref_core.prompting import prompt
from roboref_core.prompting.answer_text import NOT_VISIBLE

_SHARD_BYTES = 2 * 10**9
# What a byte-level tokenizer needs: 256 bytes and the special tokens.
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[BOS]", "[PAD]", SENTINEL, IMAGE, VIDEO)
_CORPUS = (
    prompt.SUFFIX, SYSTEM_PROMPT, NOT_VISIBLE, "Please point to the object that is marked in the first image.",
    "[(0.123, 0.456), (0.789, 0.012)]", "user system assistant Where is it now? If it is not visible, say so.",
)  # fmt: skip
# Qwen2's pre-tokenizer but for how many digits stand together.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Shape:
    """Dimensions of a checkpoint; Qwen2's and SigLIP's names. ``vocabulary`` counts the special tokens too.

    ``numbers`` says how the tokenizer treats digits: each alone as Qwen2's, up to three in a token, coordinates
    as single tokens ("0.535"), or in tokens together with the punctuation around them.
    """

    hidden: int = 64
    intermediate: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 600
    tied: bool = True
    tower_hidden: int = 48
    tower_intermediate: int = 96
    tower_layers: int = 3
    tower_heads: int = 4
    image_size: int = 112
    patch_size: int = 14
    projector: str = "mlp_downsample_3x3_fix"
    aspect: str = "dynamic"
    scales: tuple[int, ...] = ()
    depth: Literal["none", "own", "shared"] = "own"
    max_length: int = 4096
    numbers: Literal["single", "merged", "whole", "crossing"] = "single"

    @property
    def channels(self) -> int:
        return self.tower_hidden * max(1, len(self.scales))


_SIGLIP_SO400M: dict[str, Any] = dict(
    tower_hidden=1152, tower_intermediate=4304, tower_layers=27, tower_heads=16, image_size=448, max_length=16384
)
# RoboRefer's language models are Qwen2 1.5B and 7B with the published vocabulary.
SHAPES = {
    "tiny": Shape(),
    "2b": Shape(1536, 8960, 28, 12, 2, 151652, True, **_SIGLIP_SO400M),
    "8b": Shape(
        3584, 18944, 28, 28, 4, 151652, False, projector="mlp_downsample", aspect="dynamic_s2",
        scales=(448, 896, 1344), **_SIGLIP_SO400M,
    ),
}  # fmt: skip


def write_random_checkpoint(
    path: str | Path,
    shape: Shape = SHAPES["tiny"],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    scale: float = 0.02,
    device: str | torch.device = "cpu",
) -> Path:
    """Writes a checkpoint; the same arguments give the same bytes. Returns ``path``.

    Args:
        scale: standard deviation of the weights.
        device: that draws them; a GPU draws others than a CPU, and billions in a moment.
    """
    path = Path(path)
    towers = ["vision_tower", *(["depth_tower"] if shape.depth == "own" else [])]
    projectors = ["mm_projector", *(["depth_projector"] if shape.depth != "none" else [])]
    name = str(dtype).removeprefix("torch.")
    configs = {"llm": {**_language_config(shape), "torch_dtype": name}}
    configs |= {tower: {**_tower_config(shape), "torch_dtype": name} for tower in towers}
    configs |= {
        projector: {"model_type": "v2l_projector", "mm_projector_type": shape.projector, "torch_dtype": name}
        for projector in projectors
    }
    for part, config in configs.items():
        write_json(path / part / "config.json", config)
    for tower in towers:
        write_json(path / tower / "preprocessor_config.json", _processor_config(shape))
    write_json(path / "config.json", _root_config(shape, configs, name))
    write_tokenizer(path / "llm", shape)
    with torch.device("meta"):
        skeleton = RoboReferModel(read_config(path), tokenizer=None)
    generator = torch.Generator(device).manual_seed(seed)
    for part in configs:
        state = skeleton.part(part).state_dict()
        if part == "llm" and shape.tied:
            del state["lm_head.weight"]
        _write_weights(path / part, state, dtype, scale, generator)
    return path


def _write_weights(
    folder: Path, state: dict[str, torch.Tensor], dtype: torch.dtype, scale: float, generator: torch.Generator
) -> None:
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in state.items():
        if size and size + tensor.numel() * dtype.itemsize > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.numel() * dtype.itemsize
    weight_map = {}
    for index, names in enumerate(shards):
        file = f"model-{index + 1:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        tensors = {name: _random(name, state[name].shape, dtype, scale, generator) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(names, file))
    if len(shards) > 1:
        write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})


def _random(
    name: str, shape: Iterable[int], dtype: torch.dtype, scale: float, generator: torch.Generator
) -> torch.Tensor:
    tensor = torch.empty(*shape, dtype=dtype, device=generator.device)
    if name.endswith("bias"):
        return tensor.zero_()
    # One-dimensional weights are gains of norms.
    return tensor.fill_(1) if tensor.ndim == 1 else tensor.normal_(std=scale, generator=generator)


def write_tokenizer(folder: Path, shape: Shape) -> None:
    """A byte-level BPE tokenizer like Qwen2's, of exactly ``shape.vocabulary`` tokens, most of them without a use."""
    whole = shape.numbers == "whole"
    pattern = Regex((r"0\.\d{3}|" if whole else "") + _PATTERN % ("{1,3}" if shape.numbers == "merged" else ""))
    split = [] if shape.numbers == "crossing" else [pre_tokenizers.Split(pattern, "isolated")]
    # Coordinates are in the vocabulary without merges that lead to them.
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(500, shape.vocabulary - len(_SPECIAL) - 1),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    numbers: list[str] = []
    if shape.numbers == "merged":
        numbers = [str(number) for number in (*range(100), *range(0, 1000, 7))] * 20
    if shape.numbers == "crossing":
        numbers = [f"[(0.{x:03}, 0.{x:03}), (0.{x:03}, 0.{x:03})]" for x in range(0, 1000, 37)] * 20
    tokenizer.train_from_iterator([*_CORPUS * 4, *numbers], trainer)
    special = [*_SPECIAL, *([DEPTH] if shape.depth != "none" else [])]
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    if whole:
        for number in range(1000):
            vocabulary.setdefault(f"0.{number:03}", len(vocabulary))
    for index in range(len(vocabulary), shape.vocabulary - len(special)):
        vocabulary[f"<unused{index}>"] = index
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "[BOS]",
            "eos_token": "<|im_end|>",
            "pad_token": "[PAD]",
            "clean_up_tokenization_spaces": False,
            "model_max_length": shape.max_length,
            "padding_side": "right",
        },
    )


def _language_config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": max(32768, shape.max_length),
        "model_max_length": shape.max_length,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_scaling": None,
        "tie_word_embeddings": shape.tied,
        "use_sliding_window": False,
    }


def _tower_config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["SiglipVisionModel"],
        "model_type": "siglip_vision_model",
        "hidden_size": shape.tower_hidden,
        "intermediate_size": shape.tower_intermediate,
        "num_hidden_layers": shape.tower_layers,
        "num_attention_heads": shape.tower_heads,
        "num_channels": 3,
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "vision_use_head": False,
    }


def _processor_config(shape: Shape) -> dict[str, Any]:
    return {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": shape.image_size, "width": shape.image_size},
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def _root_config(shape: Shape, configs: dict[str, dict[str, Any]], dtype: str) -> dict[str, Any]:
    optional = {
        f"{part}_cfg": configs.get(part)
        for part in ("llm", "vision_tower", "mm_projector", "depth_tower", "depth_projector")
    }
    scales = (
        {
            "dynamic_s2": True,
            "s2_scales": ",".join(map(str, shape.scales)),
            "s2_max_split_size": shape.scales[0],
            "s2_resize_output_to_scale_idx": -1,
        }
        if shape.scales
        else {"dynamic_s2": False}
    )
    return {
        "architectures": ["LlavaLlamaModel"],
        "model_type": "llava_llama",
        **optional,
        **scales,
        "enable_depth": shape.depth != "none",
        "use_depth_tower": shape.depth == "own",
        "image_aspect_ratio": shape.aspect,
        "mm_hidden_size": shape.channels,
        "hidden_size": shape.hidden,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "cls_patch",
        "chat_template": "qwen2",
        "model_dtype": f"torch.{dtype}",
    }
