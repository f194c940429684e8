"""The network: Qwen2, SigLIP towers and projectors, with the reference's parameter names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from roboref_core.models.roborefer.checkpoint.config import ModelConfig
from roboref_core.models.roborefer.checkpoint.config_schema import LanguageConfig, ProcessorConfig, TowerConfig
from roboref_core.models.roborefer.network.media import encode_pictures
from roboref_core.models.roborefer.network.projectors import Projector
from roboref_core.models.roborefer.network.tiling import Kind, Tiles
from roboref_core.models.roborefer.prompt_text import PLACEHOLDERS, placeholder_ids


class RoboReferModel(nn.Module):
    """All parts of one checkpoint.

    Parameters are named as in the reference's trainer (``llm.model...``,
    ``vision_tower.vision_tower.vision_model...``, ``mm_projector.layers...``), so that each part's
    state dict carries the names of its file.

    Args:
        config: configuration of the checkpoint.
        tokenizer: with all media tokens; None for a model of which only the shapes are wanted.
        attention: transformers' name of the LLM's attention implementation in training; the towers use sdpa or eager.
    """

    def __init__(self, config: ModelConfig, tokenizer: PreTrainedTokenizerBase | None, attention: str = "sdpa"):
        super().__init__()
        self.config = config
        self._tokenizer = tokenizer
        self.llm = Qwen2ForCausalLM._from_config(language_config(config.llm), attn_implementation=attention)
        channels, hidden = config.channels, config.llm.hidden_size
        self.vision_tower = _build_tower(config.vision_tower, attention)
        self.mm_projector = Projector(config.mm_projector.mm_projector_type, channels, hidden)
        self.depth_tower = _build_tower(config.depth_tower, attention) if config.depth_tower else None
        self.depth_projector = (
            Projector(config.depth_projector.mm_projector_type, channels, hidden) if config.depth_projector else None
        )

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Raises ValueError for a model of which only the shapes are wanted."""
        if self._tokenizer is None:
            raise ValueError("this model was made without a tokenizer")
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        return self.llm.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.llm.model.embed_tokens.weight.dtype

    def part(self, name: str) -> nn.Module:
        """The module whose state dict is the file of sub-folder ``name``."""
        module = getattr(self, name)
        return module.vision_tower if name in ("vision_tower", "depth_tower") else module

    def encode(
        self, pictures: Sequence[Tiles], kind: Kind, processor: ProcessorConfig | None = None
    ) -> list[list[torch.Tensor]]:
        """Per picture, the (n, hidden) embeddings that replace each of its placeholders.

        ``processor`` overrides the normalisation of the picture's own tower.
        """
        own = kind == "depth" and self.depth_tower is not None
        tower: Any = self.part("depth_tower" if own else "vision_tower")
        projector = self._projector(kind)
        before, after = self._frame(kind)
        return [
            [torch.cat([before, tokens, after]) for tokens in tiles]
            for tiles in encode_pictures(
                pictures, self.config, tower.vision_model, projector, processor or self.config.processor(kind)
            )
        ]

    def _projector(self, kind: Kind) -> Projector:
        projector = self.mm_projector if kind == "image" else self.depth_projector
        if projector is None:
            raise ValueError("depth pictures for a checkpoint without depth")
        return projector

    def _frame(self, kind: Kind) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings put before and after each placeholder's features."""
        before, after = (torch.tensor(ids, dtype=torch.long, device=self.device) for ids in self.frame_ids(kind))
        return self.embed_ids(before), self.embed_ids(after)

    def frame_ids(self, kind: Kind) -> tuple[list[int], list[int]]:
        """Tokens put before and after each placeholder's features."""
        encoder = self.config.root.image_encoder if kind == "image" else self.config.root.depth_encoder
        before, after = (
            self.tokenizer(text).input_ids if text else [] for text in (encoder.start_tokens, encoder.end_tokens)
        )
        return before, after

    def tokens_of(self, kind: Kind, tiles: int) -> int:
        """Features that ``tiles`` tiles of one placeholder become."""
        projector = self._projector(kind)
        grid = self.config.tower(kind).grid
        cells = -(-grid // projector.factor)
        return tiles * (cells * cells - (self.config.root.mm_vision_select_feature == "patch"))

    def embed_ids(self, ids: torch.Tensor) -> torch.Tensor:
        return self.llm.model.embed_tokens(ids)

    def insert_media(
        self, ids: Sequence[int], media: Mapping[Kind, Sequence[torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Replaces the placeholders of a prompt, left to right, each kind from its own queue.

        Returns:
            (T, hidden) embeddings, and for each position the index of its token in ``ids``, -1 in pictures.
        Raises:
            ValueError: if placeholders and features do not match in number.
        """
        placeholder = {token: kind for kind, token in placeholder_ids(self.tokenizer).items() if kind in media}
        queues = {kind: list(reversed(features)) for kind, features in media.items()}
        tokens = self.embed_ids(torch.tensor(ids, dtype=torch.long, device=self.device))
        pieces: list[torch.Tensor] = []
        source: list[int] = []
        start = 0
        for position, token in enumerate(ids):
            kind = placeholder.get(token)
            if kind is None:
                continue
            if not queues[kind]:
                raise ValueError(f"more {PLACEHOLDERS[kind]} placeholders than {kind} features")
            features = queues[kind].pop()
            pieces += [tokens[start:position], features]
            source += [*range(start, position), *[-1] * len(features)]
            start = position + 1
        if unused := {kind: len(queue) for kind, queue in queues.items() if queue}:
            raise ValueError(f"features without a placeholder in the prompt: {unused}")
        pieces.append(tokens[start:])
        source += range(start, len(ids))
        return torch.cat(pieces), torch.tensor(source, device=self.device)


def language_config(config: LanguageConfig) -> Qwen2Config:
    rope = dict(config.rope_scaling or {"rope_type": "default"})
    rope.setdefault("rope_type", rope.pop("type", "default"))
    return Qwen2Config(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        hidden_act=config.hidden_act,
        max_position_embeddings=config.max_position_embeddings,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters={**rope, "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tie_word_embeddings,
        # Padding is never embedded here: no row is special.
        pad_token_id=None,
    )


def _build_tower(config: TowerConfig, attention: str) -> nn.ModuleDict:
    siglip = SiglipVisionConfig(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_act=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
        vision_use_head=config.vision_use_head,
    )
    tower = SiglipVisionModel._from_config(siglip, attn_implementation="eager" if attention == "eager" else "sdpa")
    return nn.ModuleDict({"vision_tower": nn.ModuleDict({"vision_model": tower})})
