"""RoboRefer: the native model, with or without depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from roboref_core.models.roborefer.checkpoint.config import ModelConfig, read_config
from roboref_core.models.roborefer.checkpoint.files import load_model, open_checkpoint, save_checkpoint
from roboref_core.models.roborefer.checkpoint.weights import StoredTensor
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.network.tiling import Kind, Tiles
from roboref_core.models.roborefer.prompt_text import add_training_tokens, load_tokenizer, placeholder_ids
from roboref_core.prompting.conventions import Convention
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from offline.train.families.base import Cost, Counts, Family, Reader
from offline.train.families.roborefer.examples import IGNORE, Batch, Example, build_example, collate
from offline.train.families.roborefer.loss import TrainableRoboRefer, tokenizer_of
from offline.train.families.roborefer.policy import RoboReferPolicy
from offline.train.plan import PARTS, Part, Plan, Reinforcement

_TOWERS: tuple[Part, ...] = ("vision_tower", "depth_tower")


@dataclass(frozen=True)
class RoboReferReader(Reader):
    """Attributes:
    config: of the model.
    aspect: image_aspect_ratio in force.
    tile_tokens: positions that one tile of a kind takes, and those around each placeholder's.
    training_form: of prompts, see ``build_example``.
    """

    config: ModelConfig
    tokenizer: PreTrainedTokenizerBase
    aspect: str | None
    limit: int
    tile_tokens: Mapping[Kind, tuple[int, int]]
    training_form: bool = True

    @classmethod
    def of(cls, model: RoboReferModel, aspect: str | None, training_form: bool = True) -> RoboReferReader:
        """``model`` may lie on the meta device."""
        kinds: tuple[Kind, ...] = ("image", "depth") if model.config.uses_depth else ("image",)
        tokens = {kind: (model.tokens_of(kind, 1), sum(len(ids) for ids in model.frame_ids(kind))) for kind in kinds}
        tokenizer = tokenizer_of(model)
        aspect = aspect or model.config.root.image_aspect_ratio
        return cls(model.config, tokenizer, aspect, tokenizer.model_max_length, tokens, training_form)

    def encode(
        self, conversations: Sequence[dict[str, str]], images: Sequence[np.ndarray], depths: Sequence[Image.Image]
    ) -> Example:
        if depths and self.config.depth_projector is None:
            raise ValueError("depth pictures for a checkpoint without depth: leave depth_root out")
        return build_example(
            conversations, images, depths, self.config, self.tokenizer, self.aspect, self.training_form
        )

    def count(self, example: Example) -> Counts:
        placeholders = torch.tensor(list(placeholder_ids(self.tokenizer).values()))
        text = int((~torch.isin(example.input_ids, placeholders)).sum())
        visual, tiles = 0, dict.fromkeys(_TOWERS, 0)
        shown: tuple[tuple[Kind, tuple[Tiles, ...]], ...] = (("image", example.images), ("depth", example.depths))
        for kind, pictures in shown:
            own = kind == "depth" and self.config.depth_tower is not None
            for picture in pictures:
                tile, frame = self.tile_tokens[kind]
                cells = self._cells(picture)
                visual += sum(cells) * tile + len(cells) * frame
                tiles["depth_tower" if own else "vision_tower"] += len(picture.pixels)
        # Pictures come before every answer, so what is cut off is the end of the text.
        kept = max(1, self.limit - (visual + text - len(example.input_ids)))
        supervised = int((example.labels[1:kept] != IGNORE).sum())
        return Counts(supervised, text, visual, len(example.images), tiles)

    def collate(self, examples: Sequence[Example]) -> Batch:
        return collate(examples, self.tokenizer, self.limit)

    def problems(self, example: Example) -> list[str]:
        found = []
        for number, tiles in enumerate(example.depths):
            pixels = tiles.pixels
            if pixels.min() == pixels.max():
                found.append(f"depth picture {number} is {pixels.min()} everywhere")
            elif not np.array_equal(pixels[:, 0], pixels[:, 1]):
                found.append(f"depth picture {number} has colours")
            if pixels.shape != (shape := example.images[number].pixels.shape):
                found.append(f"depth picture {number} becomes {pixels.shape}, its image {shape}")
        return found

    def _cells(self, tiles: Tiles) -> list[int]:
        """Per placeholder, the tiles whose features take its place."""
        if tiles.block is None:
            return [1] * len(tiles.pixels)
        scales, index = self.config.root.s2_scales, self.config.root.s2_resize_output_to_scale_idx
        if index in (-1, len(scales) - 1):
            return [tiles.block[0] * tiles.block[1]]
        return [(scales[index] // scales[0]) ** 2]


class RoboRefer(Family):
    """Parts are sub-modules of the model, and sub-folders of the checkpoint, of the same names."""

    backend = "roborefer"

    def reader(self, plan: Plan) -> RoboReferReader:
        config = read_config(plan.model)
        tokenizer = load_tokenizer(open_checkpoint(plan.model).root / "llm", config.uses_depth)
        add_training_tokens(tokenizer)
        if plan.model_max_length is not None:
            tokenizer.model_max_length = plan.model_max_length
        with torch.device("meta"):
            skeleton = RoboReferModel(config, tokenizer)
        return RoboReferReader.of(skeleton, plan.image_aspect_ratio, plan.prompt_form == "training")

    def load(self, path: Path, dtype: torch.dtype, max_length: int | None) -> RoboReferModel:
        return load_model(path, dtype=dtype, for_training=True, max_length=max_length, network=TrainableRoboRefer)

    def part_of(self, name: str) -> Part | None:
        part = name.partition(".")[0]
        return next((one for one in PARTS if one == part), None)

    def unused(self, model: RoboReferModel) -> list[nn.Parameter]:
        """Those of the towers behind the selected layer."""
        found: list[nn.Parameter] = []
        vision: Any
        for vision in self.towers(model):
            used = [vision.embeddings, *vision.encoder.layers[: _depth(model, vision)]]
            kept = {id(parameter) for module in used for parameter in module.parameters()}
            found += [parameter for parameter in vision.parameters() if id(parameter) not in kept]
        return found

    def language_model(self, model: RoboReferModel) -> PreTrainedModel:
        return model.llm

    def towers(self, model: RoboReferModel) -> list[PreTrainedModel]:
        parts: list[Any] = [model.part(tower) for tower in _TOWERS if getattr(model, tower) is not None]
        return [part.vision_model for part in parts]

    def loss(self, model: RoboReferModel, batch: Batch, num_items: torch.Tensor | int) -> torch.Tensor:
        return model(batch, num_items)

    def write(
        self, model: RoboReferModel, state: Mapping[str, torch.Tensor], source: Path, target: Path, aspect: str | None
    ) -> None:
        with torch.device("meta"):
            shell = RoboReferModel(model.config, model.tokenizer)
        names = [name for name, _ in shell.named_parameters(remove_duplicate=False)]
        tied = model.config.llm.tie_word_embeddings
        for name in names:
            value = state["llm.model.embed_tokens.weight" if tied and name == "llm.lm_head.weight" else name]
            owner, _, leaf = name.rpartition(".")
            parameter = nn.Parameter(value.detach().cpu(), requires_grad=False)
            setattr(shell.get_submodule(owner), leaf, parameter)
        save_checkpoint(shell, source, target, {"image_aspect_ratio": aspect} if aspect else None)

    def publish(self, checkpoint: Path, base: Path, target: Path) -> None:
        dtype = next(iter(self.stored(base)["llm"].values())).dtype
        save_checkpoint(load_model(checkpoint, dtype=dtype), checkpoint, target)

    def stored(self, checkpoint: Path) -> dict[str, dict[str, StoredTensor]]:
        return open_checkpoint(checkpoint).tensors

    def costs(self, model: RoboReferModel) -> dict[Part, Cost]:
        llm, config = model.llm, model.config.llm
        embedding = llm.model.embed_tokens.weight.numel()
        head = 0 if config.tie_word_embeddings else embedding
        weights = sum(p.numel() for p in llm.parameters()) - embedding - head
        costs: dict[Part, Cost] = {"llm": Cost(weights, config.num_hidden_layers, config.hidden_size, head=embedding)}
        for name in _TOWERS:
            if getattr(model, name) is None:
                continue
            part: Any = model.part(name)
            tower, vision = getattr(model.config, name), part.vision_model
            count = _depth(model, vision)
            weights = sum(p.numel() for block in vision.encoder.layers[:count] for p in block.parameters())
            costs[name] = Cost(weights, count, tower.hidden_size, tower.grid**2)
        return costs

    def policy(self, model: RoboReferModel, settings: Reinforcement) -> RoboReferPolicy:
        return RoboReferPolicy(model, settings)

    def answer_options(self, convention: Convention) -> tuple[str, ...]:
        if convention is not Convention.NORMALISED:
            raise ValueError(f"RoboRefer's answers are read in [0, 1], the data's are {convention.value}")
        return ()


def _depth(model: RoboReferModel, vision: Any) -> int:
    """Layers of a tower up to the selected one."""
    layer = model.config.root.mm_vision_select_layer
    return layer if layer >= 0 else len(vision.encoder.layers) + 1 + layer
