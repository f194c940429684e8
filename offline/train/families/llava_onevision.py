"""LLaVA-OneVision (arXiv:2408.03326), as transformers has it: its model, its processor, its files.

What the model is shown is what the ``llava_onevision`` backend shows it: the same processor, called on the same turns
with the generation prompt that its chat template makes, and behind it the answer and the token that ends it.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from PIL import Image
from roboref_core.atomic import replacing_folder
from roboref_core.models.hugging_face import load_processor, turn
from roboref_core.models.roborefer.checkpoint.config import checkpoint_root
from roboref_core.models.roborefer.checkpoint.weights import StoredTensor, list_tensors, read_tensors
from roboref_core.models.roborefer.prompt_text import training_content
from roboref_core.prompting.conventions import Convention
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from offline.files import read_json, write_json
from offline.train.families.base import Cost, Counts, Family, Reader
from offline.train.families.roborefer.examples import IGNORE, ROLES
from offline.train.plan import Part, Plan

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".index.json")
_SHARD_BYTES = 5 * 10**9
# Levels that transformers' versions name tensors with or without: what is left of a name is the same in all.
_LEVELS = {"model", "language_model", "vision_model"}


@dataclass(frozen=True, eq=False)
class Dialogue:
    """Attributes:
    input_ids, labels: (T,) int64; a picture is as many image tokens as it takes positions.
    pixels: (N, P, 3, H, W) float32, the P tiles of each of the N pictures; None without pictures.
    sizes: (N, 2) int64, height and width of the pictures before all resizing.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    pixels: torch.Tensor | None
    sizes: torch.Tensor


@dataclass(frozen=True, eq=False)
class DialogueBatch:
    """Dialogues, padded on the right: ids, labels and mask (B, T); pictures in row order, padded to the most tiles.

    Attributes:
        counts: (R,) pictures of each row that has any.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor
    pixels: torch.Tensor | None
    sizes: torch.Tensor
    counts: torch.Tensor


@functools.cache
def _processor(path: Path) -> ProcessorMixin:
    return load_processor(path, LlavaOnevisionConfig.from_pretrained(path, local_files_only=True))


@dataclass(frozen=True)
class LlavaOnevisionReader(Reader):
    """Attributes:
    path: of the checkpoint, whose processor each worker loads for itself.
    image_token: id of what stands for one position of a picture.
    """

    path: Path
    image_token: int
    limit: int

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return _processor(self.path).tokenizer

    def encode(
        self, conversations: Sequence[dict[str, str]], images: Sequence[np.ndarray], depths: Sequence[Image.Image]
    ) -> Dialogue:
        if depths:
            raise ValueError("LLaVA-OneVision takes no depth pictures: leave depth_root out")
        processor = _processor(self.path)
        (first, _), *rest = _pieces(processor, conversations, len(images))
        inputs = processor(images=[list(images)] if images else None, text=[first], return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        labels = [IGNORE] * len(ids)
        for text, supervised in rest:
            tokens = self.tokenizer(text, add_special_tokens=False).input_ids
            ids += tokens
            labels += tokens if supervised else [IGNORE] * len(tokens)
        pixels = inputs["pixel_values"] if images else None
        sizes = inputs["image_sizes"] if images else torch.zeros((0, 2), dtype=torch.int64)
        return Dialogue(torch.tensor(ids), torch.tensor(labels), pixels, sizes)

    def count(self, example: Dialogue) -> Counts:
        visual = int((example.input_ids == self.image_token).sum())
        supervised = int((example.labels[1 : self.limit] != IGNORE).sum())
        pictures = len(example.sizes)
        tiles = 0 if example.pixels is None else pictures * example.pixels.shape[1]
        return Counts(supervised, len(example.input_ids) - visual, visual, pictures, {"vision_tower": tiles})

    def collate(self, examples: Sequence[Dialogue]) -> DialogueBatch:
        def padded(rows: Sequence[torch.Tensor], value: int) -> torch.Tensor:
            rows = [row[: self.limit] for row in rows]
            return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

        for example in examples:
            if (example.input_ids[self.limit :] == self.image_token).any():
                raise ValueError(f"{len(example.input_ids)} tokens, cut at {self.limit} in the middle of its pictures")
        shown = [example for example in examples if example.pixels is not None]
        tiles = [example.pixels for example in examples if example.pixels is not None]
        most = max((one.shape[1] for one in tiles), default=0)
        pixels = [F.pad(one, (0, 0, 0, 0, 0, 0, 0, most - one.shape[1])) for one in tiles]
        return DialogueBatch(
            input_ids=padded([e.input_ids for e in examples], self.tokenizer.pad_token_id),
            labels=padded([e.labels for e in examples], IGNORE),
            attention_mask=padded([torch.ones_like(e.input_ids) for e in examples], 0),
            pixels=torch.cat(pixels) if pixels else None,
            sizes=torch.cat([e.sizes for e in examples]),
            counts=torch.tensor([len(e.sizes) for e in shown], dtype=torch.int64),
        )


def _pieces(processor: ProcessorMixin, conversations: Sequence[dict[str, str]], images: int) -> list[tuple[str, bool]]:
    """A dialogue as text, cut into what is given (False) and what is learned (True); the first piece is given.

    An answer and the token that ends it are learned. Placeholders in the text are not trusted: the pictures come
    first in the first human turn.
    """
    tokenizer = processor.tokenizer
    pieces: list[tuple[str, bool]] = []
    turns: list[dict[str, Any]] = []
    done = ""
    for index, said in enumerate(conversations):
        if said.get("from") not in ROLES or not isinstance(said.get("value"), str):
            raise ValueError(f"turn {index}: expected from {sorted(ROLES)} and a text value, found {said!r:.200}")
        role, text = ROLES[said["from"]], training_content(said["value"], 0, False)
        if role != "assistant":
            turns.append(turn(role, text, images if role == "user" else 0))
            images = 0 if role == "user" else images
            continue
        asked = processor.apply_chat_template(turns, add_generation_prompt=True)
        turns.append(turn(role, text))
        whole = processor.apply_chat_template(turns)
        if not text or text not in whole or not asked.startswith(done):
            raise ValueError(f"turn {index}: the chat template does not show the answer {text!r:.60} as it is")
        end = whole.rpartition(text)[2]
        stop = next((token for token in tokenizer.all_special_tokens if end.startswith(token)), None)
        if stop is None:
            raise ValueError(f"the chat template ends an answer with {end!r}, no special token to stop at")
        pieces += [(asked.removeprefix(done), False), (text, True), (stop, True), (end.removeprefix(stop), False)]
        done = whole
    if images or not pieces:
        raise ValueError("expected a human turn that shows the pictures, and an answer to it")
    return pieces


class LlavaOnevision(Family):
    """Parts, in RoboRefer's names: "llm", "vision_tower", and "mm_projector", which has image_newline too."""

    backend = "llava_onevision"

    def reader(self, plan: Plan) -> LlavaOnevisionReader:
        if plan.image_aspect_ratio is not None:
            raise ValueError(
                f"image_aspect_ratio {plan.image_aspect_ratio!r} is RoboRefer's; {plan.model} tiles pictures as its "
                "own configuration says (write image_aspect_ratio: null over a preset's)"
            )
        if plan.prompt_form != "training":
            raise ValueError(f"prompt_form {plan.prompt_form!r} is RoboRefer's; {plan.model} has one form of prompt")
        root = checkpoint_root(plan.model)
        config = LlavaOnevisionConfig.from_pretrained(root, local_files_only=True)
        context = config.get_text_config().max_position_embeddings
        if plan.model_max_length is not None and plan.model_max_length > context:
            raise ValueError(f"model_max_length {plan.model_max_length}: {root} takes {context} positions")
        _processor(root)
        return LlavaOnevisionReader(root, config.image_token_index, plan.model_max_length or context)

    def load(self, path: Path, dtype: torch.dtype, max_length: int | None) -> LlavaOnevisionForConditionalGeneration:
        return LlavaOnevisionForConditionalGeneration.from_pretrained(
            checkpoint_root(path), dtype=dtype, local_files_only=True, use_safetensors=True
        )

    def part_of(self, name: str) -> Part | None:
        owners: tuple[tuple[Part, tuple[str, ...]], ...] = (
            ("vision_tower", ("vision_tower",)),
            ("mm_projector", ("multi_modal_projector", "image_newline")),
            ("llm", ("language_model", "lm_head")),
        )
        for part, levels in owners:
            if any(level in name.split(".") for level in levels):
                return part
        return None

    def unused(self, model: LlavaOnevisionForConditionalGeneration) -> list[nn.Parameter]:
        """Those of the tower behind the last selected layer."""
        vision: Any
        (vision,) = self.towers(model)
        used = [vision.embeddings, *vision.encoder.layers[: _depth(model)]]
        kept = {id(parameter) for module in used for parameter in module.parameters()}
        return [parameter for parameter in vision.parameters() if id(parameter) not in kept]

    def language_model(self, model: LlavaOnevisionForConditionalGeneration) -> PreTrainedModel:
        return model.model.language_model

    def towers(self, model: LlavaOnevisionForConditionalGeneration) -> list[PreTrainedModel]:
        return [model.model.vision_tower]

    def loss(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        batch: DialogueBatch,
        num_items: torch.Tensor | int,
    ) -> torch.Tensor:
        inner = model.model
        vision: Any = model.config.vision_config
        device = inner.image_newline.device
        pixels, sizes, counts = batch.pixels, batch.sizes, batch.counts
        if pixels is None:
            # Two black pictures of one row take a tile each.
            pixels = torch.zeros(2, 1, vision.num_channels, vision.image_size, vision.image_size)
            sizes, counts = torch.full((2, 2), vision.image_size), torch.tensor([2])
        shown = inner.get_image_features(
            pixels.to(device, inner.image_newline.dtype), sizes.to(device), batch_num_images=counts
        ).pooler_output
        features = torch.cat(list(shown))
        ids = batch.input_ids.to(device)
        embeddings = inner.get_input_embeddings()(ids)
        features = features.to(embeddings.dtype)
        if batch.pixels is None:
            embeddings = embeddings + 0.0 * features.sum()
        else:
            at, _ = inner.get_placeholder_mask(ids, embeddings, image_features=features)
            embeddings = embeddings.masked_scatter(at.expand_as(embeddings), features)
        hidden = inner.language_model(
            inputs_embeds=embeddings, attention_mask=batch.attention_mask.to(device), use_cache=False
        ).last_hidden_state
        labels = batch.labels.to(device)[:, 1:]
        supervised = labels != IGNORE
        # Logits of all positions would take more memory than the rest of the step.
        logits = model.lm_head(hidden[:, :-1][supervised]).float()
        return F.cross_entropy(logits, labels[supervised], reduction="sum") / num_items

    def write(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        state: Mapping[str, torch.Tensor],
        source: Path,
        target: Path,
        aspect: str | None,
    ) -> None:
        """Tensors get the names of ``source``; what it holds and the model does not is taken over."""
        source = checkpoint_root(source)
        own = {_core(name): tensor for name, tensor in state.items()}
        if model.config.tie_word_embeddings:
            own["lm_head.weight"] = own["embed_tokens.weight"]
        unused = {id(parameter) for parameter in self.unused(model)}
        needless = {_core(name) for name, parameter in model.named_parameters() if id(parameter) in unused}
        stored = list_tensors(source, "model")
        if lacking := own.keys() - {_core(name) for name in stored} - needless - {"lm_head.weight"}:
            raise ValueError(f"{source} has no tensor for {len(lacking)} of the model's, first {min(lacking)}")
        foreign = [tensor for name, tensor in stored.items() if _core(name) not in own]
        tensors = dict(read_tensors(foreign, "model"))
        tensors |= {name: own[_core(name)] for name in stored if name not in tensors}
        _write(source, target, tensors)

    def publish(self, checkpoint: Path, base: Path, target: Path) -> None:
        base = checkpoint_root(base)
        dtypes = {name: tensor.dtype for name, tensor in list_tensors(base, "model").items()}
        tensors = read_tensors(list(list_tensors(checkpoint, "model").values()), "model")
        _write(base, target, {name: tensor.to(dtypes[name]) for name, tensor in tensors})

    def stored(self, checkpoint: Path) -> dict[str, dict[str, StoredTensor]]:
        found: dict[str, dict[str, StoredTensor]] = {}
        for name, tensor in list_tensors(checkpoint_root(checkpoint), "model").items():
            found.setdefault(self.part_of(name) or "other", {})[name] = tensor
        return found

    def costs(self, model: LlavaOnevisionForConditionalGeneration) -> dict[Part, Cost]:
        text, vision = model.config.get_text_config(), cast(Any, model.config.vision_config)
        language, tower = model.model.language_model, cast(Any, model.model.vision_tower)
        embedding = language.get_input_embeddings().weight.numel()
        weights = sum(p.numel() for p in language.parameters()) - embedding
        seen = [p for block in tower.encoder.layers[: _depth(model)] for p in block.parameters()]
        patches = (vision.image_size // vision.patch_size) ** 2
        return {
            "llm": Cost(weights, text.num_hidden_layers, text.hidden_size, head=embedding),
            "vision_tower": Cost(sum(p.numel() for p in seen), _depth(model), vision.hidden_size, patches),
        }

    def answer_options(self, convention: Convention) -> tuple[str, ...]:
        return (f"convention={convention.value}",)


def _depth(model: LlavaOnevisionForConditionalGeneration) -> int:
    """Layers of the tower up to the last selected one."""
    chosen = model.config.vision_feature_layer
    count = len(model.model.vision_tower.encoder.layers)
    return max(layer if layer >= 0 else count + 1 + layer for layer in np.atleast_1d(chosen).tolist())


def _core(name: str) -> str:
    return ".".join(level for level in name.split(".") if level not in _LEVELS)


def _write(source: Path, target: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """A checkpoint of these tensors, with all else that ``source`` has: configuration, processor, tokenizer."""
    if target.exists():
        raise FileExistsError(f"checkpoint {target} exists already")
    with replacing_folder(target) as work:
        for file in sorted(source.iterdir()):
            if file.is_file() and not file.name.endswith(_WEIGHT_SUFFIXES):
                shutil.copyfile(file, work / file.name)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        shards = split_torch_state_dict_into_shards(tensors, max_shard_size=_SHARD_BYTES)
        for name, members in shards.filename_to_tensors.items():
            save_file({key: tensors[key] for key in members}, work / name, metadata={"format": "pt"})
        if shards.is_sharded:
            index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
            write_json(work / "model.safetensors.index.json", index)
        config = read_json(work / "config.json")
        dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
        stated = [part for part in (config, config.get("text_config"), config.get("vision_config")) if part]
        named = [(part, key) for part in stated for key in ("dtype", "torch_dtype") if key in part]
        if any(part[key] != dtype for part, key in named):
            for part, key in named:
                part[key] = dtype
            write_json(work / "config.json", config)
