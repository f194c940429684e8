"""The training forward pass: pictures inserted row by row, rows packed without padding, loss per label token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.network.tiling import Kind, Tiles
from roboref_core.models.roborefer.prompt_text import placeholder_ids
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from offline.train.families.roborefer.examples import IGNORE, Batch


class TrainableRoboRefer(RoboReferModel):
    """The network with the training forward pass, which DeepSpeed's engine calls as the module itself."""

    def forward(self, batch: Batch, num_items: torch.Tensor | int | None = None) -> torch.Tensor:
        """Training loss, see ``batch_loss``."""
        return batch_loss(self, batch, num_items)


def tokenizer_of(model: RoboReferModel) -> PreTrainedTokenizerBase:
    """A model's tokenizer; models for training always have one."""
    assert model.tokenizer is not None
    return model.tokenizer


@dataclass(frozen=True, eq=False)
class EmbeddedRow:
    """One example with its pictures: (T, hidden) embeddings and (T,) labels, -100 in pictures."""

    embeddings: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """All rows in one sequence, as the reference packs them.

    After the last row comes one position of zeros, which attention_mask leaves out. Position ids start
    again at 0 for each row, and attention does not cross rows.

    Attributes:
        embeddings: (1, T, hidden).
        position_ids, labels, attention_mask: (1, T); the first label of each row is -100.
    """

    embeddings: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor


def embed_batch(model: RoboReferModel, batch: Batch, max_length: int | None = None) -> list[EmbeddedRow]:
    """Embeds a batch row by row; rows are cut at ``max_length`` positions (default: the tokenizer's)."""
    limit = max_length or tokenizer_of(model).model_max_length
    queues: dict[Kind, list[torch.Tensor]] = {}
    idle: torch.Tensor | float = 0.0
    shown: tuple[tuple[Kind, tuple[Tiles, ...]], ...] = (("image", batch.images), ("depth", batch.depths))
    for kind, pictures in shown:
        features = model.encode(pictures, kind, model.config.image_processor) if pictures else []
        queues[kind] = [tensor for tensors in features for tensor in tensors]
        # Here, not later: sharded ranks fetch each module's weights together, so they must run them in one order.
        if not pictures and (kind == "image" or model.config.uses_depth):
            idle = idle + 0.0 * _idle_features(model, kind)
    ids_of = placeholder_ids(tokenizer_of(model))
    rows = []
    for ids, labels, mask in zip(batch.input_ids, batch.labels, batch.attention_mask, strict=True):
        ids, labels = ids[mask].tolist(), labels[mask]
        media: dict[Kind, Sequence[torch.Tensor]] = {}
        for kind, token in ids_of.items():
            count = ids.count(token)
            media[kind], queues[kind] = queues[kind][:count], queues[kind][count:]
        embeddings, source = model.insert_media(ids, media)
        labels = labels.to(source.device)
        spread = torch.where(source < 0, IGNORE, labels[source.clamp(min=0)])
        rows.append(EmbeddedRow(embeddings[:limit] + idle, spread[:limit]))
    if unused := {kind: len(queue) for kind, queue in queues.items() if queue}:
        raise ValueError(f"features without a placeholder in the batch: {unused}")
    return rows


def pack(rows: list[EmbeddedRow]) -> PackedBatch:
    first = rows[0].embeddings
    positions = [torch.arange(len(row.labels), device=first.device) for row in rows]
    labels = []
    for row in rows:
        shifted = row.labels.clone()
        shifted[0] = IGNORE
        labels.append(shifted)
    end = torch.zeros(1, dtype=torch.long, device=first.device)
    mask = torch.ones(sum(map(len, labels)) + 1, dtype=torch.int32, device=first.device)
    mask[-1] = 0
    return PackedBatch(
        embeddings=torch.cat([*(row.embeddings for row in rows), first.new_zeros(1, first.shape[1])])[None],
        position_ids=torch.cat([*positions, end])[None],
        labels=torch.cat([*labels, end + IGNORE])[None],
        attention_mask=mask[None],
    )


def batch_loss(model: RoboReferModel, batch: Batch, num_items: torch.Tensor | int | None = None) -> torch.Tensor:
    """Cross-entropy of the label tokens, summed and divided by ``num_items``.

    Args:
        num_items: label tokens of the whole global step (all ranks and accumulated batches); None counts
            this batch alone.
    """
    packed = pack(embed_batch(model, batch))
    hidden = model.llm.model(
        inputs_embeds=packed.embeddings, position_ids=packed.position_ids, use_cache=False
    ).last_hidden_state[0, :-1]
    labels = packed.labels[0, 1:]
    supervised = labels != IGNORE
    # Logits of all positions would take more memory than the rest of the step.
    logits = model.llm.lm_head(hidden[supervised]).float()
    total = F.cross_entropy(logits, labels[supervised], reduction="sum")
    return total / (supervised.sum().clamp(min=1) if num_items is None else num_items)


def _idle_features(model: RoboReferModel, kind: Kind) -> torch.Tensor:
    """A scalar through a tower that this batch does not use: ranks must run the same modules, or they wait forever."""
    side = model.config.tile_side(kind)
    tiles = Tiles(np.zeros((1, 3, side, side), dtype=np.uint8))
    (features,) = model.encode([tiles], kind, model.config.image_processor)
    return torch.cat(features).sum()
