"""From pictures and words to prompts whose picture part is computed once and kept.

A prompt is cut after each picture. A cut's keys and values depend on nothing but the tokens and
pictures up to it, so they are kept under a digest of exactly these, and a prompt with the same
beginning starts from there. Uncached prompts are computed in the same cuts: that makes cached and
uncached results equal to the last bit on CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from roboref_core.models.roborefer.checkpoint.config_schema import ASPECT_RATIOS
from roboref_core.models.roborefer.decoding.cache import ByteBoundedCache
from roboref_core.models.roborefer.decoding.tree import Node
from roboref_core.models.roborefer.errors import PromptTooLongError
from roboref_core.models.roborefer.network.language import KeyValueBuffer, Rows, Segment, run_language_model
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.network.tiling import Kind, count_placeholders, cut_tiles, to_picture
from roboref_core.models.roborefer.prompt_text import (
    PLACEHOLDERS,
    context_length,
    inference_content,
    placeholder_ids,
    render_chat,
)
from roboref_core.models.vision_language_model import Prompt

# Text after the last picture is evaluated with the answer's first tokens, under an explicit mask; longer
# text is not worth that mask.
_MAX_TAIL = 512
_MAX_CHUNK = 2048


@dataclass(frozen=True)
class Picture:
    """One picture of a prompt, the digest of its content, and the features that each of its placeholders becomes."""

    kind: Kind
    array: np.ndarray
    digest: bytes
    placeholders: tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """Consecutive tokens of a prompt, with the pictures whose placeholders they hold."""

    ids: tuple[int, ...]
    pictures: tuple[Picture, ...]
    key: bytes | None


@dataclass(frozen=True)
class PlannedPrompt:
    """A prompt before anything is computed: cuts, the tokens after them, and its length in positions."""

    text: str
    ids: tuple[int, ...]
    cuts: tuple[Cut, ...]
    tail: tuple[int, ...]
    length: int


class Prefiller:
    """Plans prompts and computes their prefixes, with caches of picture features and of prefixes.

    Args:
        model: in eval mode.
        aspect: overrides the checkpoint's image_aspect_ratio.
        training_form: see ``inference_content``.
        feature_cache_bytes, prefix_cache_bytes: bounds of the caches; 0 turns one off.
    """

    def __init__(
        self,
        model: RoboReferModel,
        aspect: str | None = None,
        training_form: bool = False,
        feature_cache_bytes: int = 0,
        prefix_cache_bytes: int = 0,
    ):
        if aspect is not None and aspect not in ASPECT_RATIOS:
            raise ValueError(f"aspect must be one of {', '.join(ASPECT_RATIOS)}, found {aspect!r}")
        if aspect == "dynamic_s2" and not model.config.root.dynamic_s2:
            raise ValueError("aspect dynamic_s2 needs a checkpoint with dynamic_s2")
        self.model = model
        self.aspect = aspect or model.config.root.image_aspect_ratio
        self.training_form = training_form
        self.limit = context_length(model.tokenizer, model.config.llm)
        self.features: ByteBoundedCache[list[torch.Tensor]] = ByteBoundedCache(feature_cache_bytes)
        self.prefixes: ByteBoundedCache[Segment] = ByteBoundedCache(prefix_cache_bytes)
        self._frame_length = {kind: sum(map(len, model.frame_ids(kind))) for kind in PLACEHOLDERS}

    def plan(self, prompt: Prompt) -> PlannedPrompt:
        """Text, tokens and cuts of a prompt.

        Raises:
            ValueError: for pictures that are no pictures, or depth for a model without.
            PromptTooLongError: if no position is left for an answer.
        """
        if prompt.depths and not self.model.config.uses_depth:
            raise ValueError(f"{len(prompt.depths)} depth pictures for a checkpoint without depth")
        pictures = [self._picture(array, "image") for array in prompt.images]
        pictures += [self._picture(array, "depth") for array in prompt.depths]
        tiles = {kind: [len(p.placeholders) for p in pictures if p.kind == kind] for kind in PLACEHOLDERS}
        parts: list[str | tuple[Kind, object]] = [*((p.kind, p.array) for p in pictures), prompt.text]
        content = inference_content(parts, self.aspect, tiles, self.training_form)
        text = render_chat(
            self.model.tokenizer, [("user", content)], self.model.config.root.chat_template, add_generation_prompt=True
        )
        ids = self.model.tokenizer(text).input_ids
        cuts, end = self._cut(ids, pictures)
        length = len(ids) + sum(sum(p.placeholders) - len(p.placeholders) for p in pictures)
        if length >= self.limit:
            raise PromptTooLongError(length, self.limit)
        while len(ids) - end > _MAX_TAIL:
            start, end = end, min(len(ids) - 1, end + _MAX_CHUNK)
            cuts.append(Cut(tuple(ids[start:end]), (), None))
        return PlannedPrompt(text, tuple(ids), tuple(cuts), tuple(ids[end:]), length)

    def _picture(self, array: np.ndarray, kind: Kind) -> Picture:
        picture = to_picture(array, kind)
        digest = hashlib.blake2b(np.asarray(picture).tobytes(), digest_size=16)
        digest.update(f"{kind} {picture.size} {self.aspect}".encode())
        tiles = count_placeholders(*picture.size, self.model.config, kind, self.aspect)
        extra = self._frame_length[kind]
        placeholders = tuple(self.model.tokens_of(kind, blocks) + extra for blocks in tiles)
        return Picture(kind, array, digest.digest(), placeholders)

    def _cut(self, ids: Sequence[int], pictures: Sequence[Picture]) -> tuple[list[Cut], int]:
        """Cuts after the last placeholder of each picture, not between pictures and the depths that follow them."""
        kinds = {token: kind for kind, token in placeholder_ids(self.model.tokenizer).items()}
        queues = {kind: [p for p in reversed(pictures) if p.kind == kind] for kind in PLACEHOLDERS}
        left = {kind: 0 for kind in PLACEHOLDERS}
        ends: list[tuple[int, Picture]] = []
        for position, token in enumerate(ids):
            if (kind := kinds.get(token)) is None:
                continue
            if not left[kind]:
                left[kind] = len(queues[kind][-1].placeholders)
            left[kind] -= 1
            if not left[kind]:
                ends.append((position + 1, queues[kind].pop()))
        cuts: list[Cut] = []
        start, members, key = 0, [], b""
        for index, (end, picture) in enumerate(ends):
            members.append(picture)
            if index + 1 < len(ends) and ends[index + 1][1].kind == "depth":
                continue
            digest = hashlib.blake2b(key, digest_size=16)
            digest.update(np.asarray(ids[start:end], dtype=np.int64).tobytes())
            for member in members:
                digest.update(member.digest)
            key = digest.digest()
            cuts.append(Cut(tuple(ids[start:end]), tuple(members), key))
            start, members = end, []
        return cuts, start

    def compute(self, plans: Sequence[PlannedPrompt]) -> list[list[Segment]]:
        """Keys and values of all cuts of each prompt; what is cached or shared among the prompts is not computed."""
        shared: dict[bytes, Segment] = {}
        return [self._compute(plan, shared) for plan in plans]

    def _compute(self, plan: PlannedPrompt, shared: dict[bytes, Segment]) -> list[Segment]:
        segments: list[Segment] = []
        buffer: KeyValueBuffer | None = None
        for cut in plan.cuts:
            held = None
            if cut.key and buffer is None:
                held = shared.get(cut.key) or self.prefixes.get(cut.key)
            if held is None:
                buffer = buffer or KeyValueBuffer(self.model, segments, plan.length)
                held = self._run(cut, buffer)
                if cut.key:
                    self.prefixes.put(cut.key, held, held.nbytes)
            if cut.key:
                shared[cut.key] = held
            segments.append(held)
        return segments

    def _run(self, cut: Cut, buffer: KeyValueBuffer) -> Segment:
        media: dict[Kind, list[torch.Tensor]] = {kind: [] for kind in PLACEHOLDERS}
        for picture in cut.pictures:
            media[picture.kind] += self._encode(picture)
        embeddings, _ = self.model.insert_media(cut.ids, media)
        start, device = buffer.length, embeddings.device
        positions = torch.arange(start, start + len(embeddings), device=device)
        mask = torch.arange(start + len(embeddings), device=device) <= positions[:, None] if start else None
        nothing = torch.empty(0, dtype=torch.long, device=device)
        run_language_model(self.model, embeddings, positions, [Rows(buffer, len(embeddings), mask, nothing)])
        return buffer.segment(start)

    def _encode(self, picture: Picture) -> list[torch.Tensor]:
        """Features of a picture, alone in its batch: so they do not depend on what else is asked."""
        features = self.features.get(picture.digest)
        if features is None:
            tiles = cut_tiles(to_picture(picture.array, picture.kind), self.model.config, picture.kind, self.aspect)
            (features,) = self.model.encode([tiles], picture.kind)
            self.features.put(picture.digest, features, sum(tensor.nbytes for tensor in features))
        return features

    def tail_nodes(self, plan: PlannedPrompt, prompt: int) -> list[Node]:
        """The text after the pictures as a chain of nodes; the answer follows the last."""
        first = Node(prompt, None, plan.tail[0])
        nodes = [first, *first.chain(plan.tail[1:])]
        for node in nodes[:-1]:
            node.wants_logits = False
        return nodes
