"""The language model's layers over rows of several prompts at once.

The same arithmetic as transformers' Qwen2Model, which cannot do two things that answers need: rows of one
pass that belong to prompts with keys and values of their own, without padding; and a last layer that computes
only what is asked for. Of a prompt's prefix, that is keys and values; of its text, one row. And in half as many
operations: a pass of a few rows waits for Python, not for the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from roboref_core.models.roborefer.network.model import RoboReferModel


@dataclass(frozen=True, eq=False)
class Segment:
    """Keys and values of consecutive prompt positions: (2, layers, kv_heads, length, head_dim)."""

    states: torch.Tensor

    @property
    def length(self) -> int:
        return self.states.shape[3]

    @property
    def nbytes(self) -> int:
        return self.states.nbytes


class KeyValueBuffer:
    """Growing keys and values of all layers, beginning with those of segments."""

    def __init__(self, model: RoboReferModel, segments: Sequence[Segment], room: int):
        config = model.llm.config
        self.length = sum(segment.length for segment in segments)
        head_dim = config.hidden_size // config.num_attention_heads
        shape = (2, config.num_hidden_layers, config.num_key_value_heads, self.length + room, head_dim)
        self._states = torch.empty(shape, dtype=model.dtype, device=model.device)
        start = 0
        for segment in segments:
            self._states[:, :, :, start : start + segment.length] = segment.states
            start += segment.length

    def segment(self, start: int) -> Segment:
        """A copy of what there is from position ``start`` on."""
        return Segment(self._states[:, :, :, start : self.length].clone())

    def reserve(self, count: int) -> None:
        *outer, capacity, head_dim = self._states.shape
        if self.length + count > capacity:
            grown = self._states.new_empty((*outer, capacity + max(1024, count), head_dim))
            grown[:, :, :, : self.length] = self._states[:, :, :, : self.length]
            self._states = grown

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts (kv_heads, new, head_dim) of one layer after ``length``; returns all of it, as (1, kv_heads, ...)."""
        end = self.length + keys.shape[1]
        self._states[0, layer, :, self.length : end] = keys
        self._states[1, layer, :, self.length : end] = values
        return self._states[0, layer, None, :, :end], self._states[1, layer, None, :, :end]


@dataclass(frozen=True, eq=False)
class Rows:
    """New positions that look at one buffer and are appended to it.

    Attributes:
        mask: (count, buffer.length + count) bool, True where a position may look. None is causal, for an empty
            buffer of which no row is wanted.
        wanted: indices of the rows whose last hidden states are wanted; others leave keys and values only.
    """

    buffer: KeyValueBuffer
    count: int
    mask: torch.Tensor | None
    wanted: torch.Tensor


def run_language_model(
    model: RoboReferModel, embeddings: torch.Tensor, positions: torch.Tensor, groups: Sequence[Rows]
) -> torch.Tensor:
    """(W, hidden) last hidden states of the wanted rows, group by group.

    Args:
        embeddings: (R, hidden), the rows of all groups.
        positions: (R,) of the rotary embedding.
    """
    language = model.llm.model
    rotation = _rotation(language.rotary_emb(embeddings[None], positions[None]))
    for group in groups:
        group.buffer.reserve(group.count)
    ends = torch.tensor([group.count for group in groups]).cumsum(0).tolist()
    spans = [slice(end - group.count, end) for group, end in zip(groups, ends, strict=True)]
    # What sdpa makes of a bool mask, once instead of in each layer.
    masks = [None if g.mask is None else _additive(g.mask, model.dtype) for g in groups]
    hidden = embeddings
    for index, layer in enumerate(language.layers[:-1]):
        normed = _norm(layer.input_layernorm, hidden)
        queries, seen = _extend(layer, index, normed, rotation, groups, spans)
        attended = [_attend(queries[s], *kv, m) for s, kv, m in zip(spans, seen, masks, strict=True)]
        hidden = _finish(layer, hidden, attended)
    layer = language.layers[-1]
    normed = _norm(layer.input_layernorm, hidden)
    queries, seen = _extend(layer, len(language.layers) - 1, normed, rotation, groups, spans)
    for group in groups:
        group.buffer.length += group.count
    wanted = torch.cat([group.wanted + span.start for group, span in zip(groups, spans, strict=True)])
    if not len(wanted):
        return hidden[:0]
    shares = queries[wanted].split([len(group.wanted) for group in groups])
    attended = [
        _attend(share, *kv, None if mask is None else mask[group.wanted])
        for share, kv, mask, group in zip(shares, seen, masks, groups, strict=True)
        if len(group.wanted)
    ]
    return _norm(language.norm, _finish(layer, hidden[wanted], attended))


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


def _norm(norm: Any, rows: torch.Tensor) -> torch.Tensor:
    """Qwen2RMSNorm as one operation."""
    return F.rms_norm(rows, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _rotation(tables: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, 1, head_dim) cosines and sines from the rotary embedding's; the sines of the first half negated."""
    cos, sin = (table[0, :, None] for table in tables)
    half = sin.shape[-1] // 2
    return cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def _extend(
    layer: Qwen2DecoderLayer,
    index: int,
    normed: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    groups: Sequence[Rows],
    spans: Sequence[slice],
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Writes the new keys and values of a layer.

    Returns:
        (rows, heads, head_dim) queries, and what each group's rows may look at.
    """
    attention, (cos, sin) = layer.self_attn, rotation
    size = cos.shape[-1]
    flat = torch.cat([attention.q_proj(normed), attention.k_proj(normed)], dim=-1).view(len(normed), -1, size)
    # x cos + rotate_half(x) sin, whose minus is in the sines.
    rotated = torch.addcmul(flat * cos, flat.roll(size // 2, -1), sin)
    values = attention.v_proj(normed).view(len(normed), -1, size).transpose(0, 1)
    heads = rotated.shape[1] - len(values)
    queries, keys = rotated[:, :heads], rotated[:, heads:].transpose(0, 1)
    return queries, [g.buffer.write(index, keys[:, s], values[:, s]) for g, s in zip(groups, spans, strict=True)]


def _attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(rows, heads * head_dim) of (rows, heads, head_dim) queries."""
    on_cpu = queries.device.type == "cpu"
    if not on_cpu:
        # With a mask, a GPU's fast kernels take no fewer key heads than query heads.
        keys, values = (states.repeat_interleave(queries.shape[1] // states.shape[1], 1) for states in (keys, values))
    found = F.scaled_dot_product_attention(
        queries.transpose(0, 1)[None], keys, values, mask, is_causal=mask is None, enable_gqa=on_cpu
    )
    return found[0].transpose(0, 1).flatten(1)


def _finish(layer: Qwen2DecoderLayer, hidden: torch.Tensor, attended: Sequence[torch.Tensor]) -> torch.Tensor:
    rows = attended[0] if len(attended) == 1 else torch.cat(list(attended))
    hidden = hidden + layer.self_attn.o_proj(rows)
    return hidden + layer.mlp(_norm(layer.post_attention_layernorm, hidden))
