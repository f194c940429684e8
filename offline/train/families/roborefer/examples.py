"""Dialogues to training batches: text, labels and collation as the reference does them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from roboref_core.models.roborefer.checkpoint.config import ModelConfig
from roboref_core.models.roborefer.network.tiling import Kind, Tiles, cut_tiles, to_picture
from roboref_core.models.roborefer.prompt_text import (
    SENTINEL,
    expand_tiles,
    inference_content,
    placeholder_ids,
    render_chat,
    training_content,
)
from transformers import PreTrainedTokenizerBase

IGNORE = -100
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


@dataclass(frozen=True, eq=False)
class Example:
    """One dialogue, ready for the model.

    Attributes:
        text: the rendered dialogue.
        input_ids, labels: (T,) int64; pictures are placeholders, one for each tile or each S2 picture.
        images, depths: in placeholder order.
    """

    text: str
    input_ids: torch.Tensor
    labels: torch.Tensor
    images: tuple[Tiles, ...]
    depths: tuple[Tiles, ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples, padded on the right: ids (B, T), labels (B, T), attention_mask (B, T) bool; pictures in row order."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor
    images: tuple[Tiles, ...]
    depths: tuple[Tiles, ...]


def build_example(
    conversations: Sequence[dict[str, str]],
    images: Sequence[np.ndarray | Image.Image],
    depths: Sequence[np.ndarray | Image.Image],
    config: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    aspect: str | None = None,
    training_form: bool = True,
) -> Example:
    """A dialogue in LLaVA's form with its pictures.

    Placeholders in the text are not trusted: all are removed, and those of the pictures are put in front of
    the first question. Depth pictures get the vision tower's preprocessing, as in the reference's training.

    Args:
        conversations: [{"from": "human" | "gpt", "value": str}, ...].
        depths: none, or one per image.
        aspect: overrides the checkpoint's image_aspect_ratio.
        training_form: as the reference trains; otherwise the first turn is what ``inference_content`` makes of it.
    Raises:
        ValueError: for an unknown role, a wrong number of depths, or one that differs from its image in size.
    """
    aspect = aspect or config.root.image_aspect_ratio
    pictures = [to_picture(image, "image") for image in images]
    reliefs = [to_picture(depth, "depth") for depth in depths]
    if reliefs and len(reliefs) != len(pictures):
        raise ValueError(f"expected no depths or one per image, found {len(reliefs)} for {len(pictures)} images")
    for index, (picture, relief) in enumerate(zip(pictures, reliefs, strict=False)):
        if picture.size != relief.size:
            raise ValueError(f"depth {index} has size {relief.size}, its image {picture.size}")
    image_tiles = tuple(cut_tiles(picture, config, "image", aspect) for picture in pictures)
    depth_tiles = tuple(cut_tiles(relief, config, "image", aspect) for relief in reliefs)
    shown: tuple[tuple[Kind, tuple[Tiles, ...]], ...] = (("image", image_tiles), ("depth", depth_tiles))
    messages = []
    first = next((index for index, turn in enumerate(conversations) if turn.get("from") == "human"), 0)
    for index, turn in enumerate(conversations):
        if turn.get("from") not in ROLES or not isinstance(turn.get("value"), str):
            raise ValueError(f"turn {index}: expected from {sorted(ROLES)} and a text value, found {turn!r:.200}")
        counts: dict[Kind, Sequence[int]] = {
            kind: [len(t.pixels) for t in tiles] if index == first else [] for kind, tiles in shown
        }
        if training_form:
            content = training_content(turn["value"], len(counts["image"]), bool(counts["depth"]))
            content = expand_tiles(content, counts) if aspect == "dynamic" else content
        else:
            media: list[tuple[Kind, object]] = [(kind, None) for kind, tiles in counts.items() for _ in tiles]
            content = inference_content([*media, turn["value"]], aspect, counts)
        messages.append((ROLES[turn["from"]], content))
    text = render_chat(tokenizer, messages, config.root.chat_template, add_generation_prompt=False)
    input_ids = torch.tensor(tokenizer(text).input_ids)
    labels = label_answers(input_ids, messages, config.root.chat_template, tokenizer)
    return Example(text, input_ids, labels, image_tiles, depth_tiles)


def label_answers(
    input_ids: torch.Tensor,
    messages: Sequence[tuple[str, str]],
    chat_template: str | None,
    tokenizer: PreTrainedTokenizerBase,
) -> torch.Tensor:
    """(T,) labels: the tokens of every answer with the token that ends it; -100 elsewhere.

    The dialogue is matched against the same dialogue without its answers; what does not match is supervised.
    A dialogue that cannot be matched is not supervised at all.
    """
    blanked = [(role, SENTINEL if role == "assistant" else content) for role, content in messages]
    template = torch.tensor(tokenizer(render_chat(tokenizer, blanked, chat_template, False)).input_ids)
    sentinel = tokenizer.convert_tokens_to_ids(SENTINEL)
    at = torch.nonzero(torch.eq(template[:-1], torch.tensor(sentinel))).flatten()
    for before in (0, 1):
        keep = torch.ones(len(template), dtype=torch.bool)
        for offset in range(-before, 2):
            keep[(at + offset).clamp(min=0)] = False
        frame = template[keep].tolist()
        labels = input_ids.clone()
        matched = 0
        for position, token in enumerate(input_ids.tolist()):
            if matched < len(frame) and token == frame[matched]:
                labels[position] = IGNORE
                matched += 1
        if matched == len(frame):
            return labels
    return torch.full_like(input_ids, IGNORE)


def collate(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Batch:
    """Pads examples to one batch, cut at ``max_length`` tokens (default: the tokenizer's).

    Raises:
        ValueError: if the cut takes a picture's placeholder away.
    """
    limit = max_length or tokenizer.model_max_length
    pad = tokenizer.pad_token_id
    placeholders = torch.tensor(list(placeholder_ids(tokenizer).values()))
    for index, example in enumerate(examples):
        if torch.isin(example.input_ids[limit:], placeholders).any():
            raise ValueError(
                f"example {index}: {len(example.input_ids)} tokens, cut at {limit} in the middle of its pictures"
            )

    def padded(rows: list[torch.Tensor], value: int) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([row[:limit] for row in rows], batch_first=True, padding_value=value)

    input_ids = padded([example.input_ids for example in examples], pad)
    return Batch(
        input_ids=input_ids,
        labels=padded([example.labels for example in examples], IGNORE),
        attention_mask=input_ids != pad,
        images=tuple(tiles for example in examples for tiles in example.images),
        depths=tuple(tiles for example in examples for tiles in example.depths),
    )
