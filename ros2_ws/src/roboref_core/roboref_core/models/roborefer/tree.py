"""Evaluating many short continuations of long prompts in one pass of the LLM.

A node is one token after a prompt; its branch back to the root is what it sees. All nodes of all
prompts share one key/value buffer, and a mask keeps branches apart. So alternatives of one answer,
drafted text that may turn out wrong, and the questions of a batch cost one pass together, and a
prefix that several prompts share is held once. Decoders are generators: they yield the nodes that
they need evaluated and go on when these carry their logits.
"""
from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import functional as F

from roboref_core.models.roborefer.errors import NonFiniteLogitsError
from roboref_core.models.roborefer.model import RoboReferModel

Result = TypeVar("Result")
Decoder = Generator[list["Node"], None, Result]


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


@dataclass(eq=False)
class Node:
    """A token after a prompt.

    Attributes:
        prompt: index of its prompt in the tree.
        parent: the token before it; None directly after the prompt's prefix.
        token: its id.
        wants_logits: whether anything will be predicted from it.
        scored: ids whose logits are wanted; None: all. Continuations inherit it.
        logits: (vocabulary,) float32 once evaluated, if wanted; -inf for what is not scored.
        children: nodes that continue it, by token.
        path: buffer slots of its branch, itself included, once evaluated.
    """

    prompt: int
    parent: Node | None
    token: int
    wants_logits: bool = True
    scored: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    children: dict[int, Node] = field(default_factory=dict)
    path: np.ndarray | None = None

    def child(self, token: int) -> Node:
        """The continuation by ``token``: the one that exists, or a new one."""
        if token not in self.children:
            self.children[token] = Node(self.prompt, self, token, scored=self.scored)
        return self.children[token]

    def chain(self, tokens: Sequence[int]) -> list[Node]:
        """Nodes for a run of tokens."""
        nodes, node = [], self
        for token in tokens:
            node = node.child(token)
            nodes.append(node)
        return nodes


class KeyValueBuffer:
    """The cache object that transformers' Qwen2 writes to: one growing buffer per layer."""

    def __init__(self, model: RoboReferModel, segments: Sequence[Segment], room: int):
        config = model.llm.config
        self.length = sum(segment.length for segment in segments)
        head_dim = config.hidden_size // config.num_attention_heads
        shape = (2, config.num_hidden_layers, config.num_key_value_heads, self.length + room, head_dim)
        self.states = torch.empty(shape, dtype=model.dtype, device=model.device)
        start = 0
        for segment in segments:
            self.states[:, :, :, start : start + segment.length] = segment.states
            start += segment.length

    def reserve(self, count: int) -> None:
        capacity = self.states.shape[3]
        if self.length + count > capacity:
            grown = self.states.new_empty((*self.states.shape[:3], capacity + max(1024, count), self.states.shape[4]))
            grown[:, :, :, : self.length] = self.states[:, :, :, : self.length]
            self.states = grown

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = self.length + keys.shape[2]
        self.states[0, layer, :, self.length : end] = keys[0]
        self.states[1, layer, :, self.length : end] = values[0]
        return self.states[0, layer, None, :, :end], self.states[1, layer, None, :, :end]


def run_llm(
    model: RoboReferModel,
    embeddings: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor | None,
    buffer: KeyValueBuffer,
) -> torch.Tensor:
    """(Q, hidden) last hidden states of Q new positions; their keys and values are appended to the buffer.

    Args:
        embeddings: (Q, hidden).
        positions: (Q,) of the rotary embedding.
        mask: (Q, buffer.length + Q) bool, True where a position may look; None is causal, for an empty buffer.
    """
    buffer.reserve(len(embeddings))
    hidden = model.llm.model(
        inputs_embeds=embeddings[None],
        position_ids=positions[None],
        attention_mask={"full_attention": None if mask is None else mask[None, None]},
        past_key_values=buffer,
        use_cache=True,
    ).last_hidden_state[0]
    buffer.length += len(embeddings)
    return hidden


class TokenTree:
    """Prompts' prefixes and the nodes after them.

    Args:
        model: in eval mode, with sdpa attention.
        prefixes: per prompt, the segments before its first node. Segments that are the same object
            are held once.
        room: positions to reserve for nodes; grows as needed.
    """

    def __init__(self, model: RoboReferModel, prefixes: Sequence[Sequence[Segment]], room: int = 256):
        self._model = model
        unique = list({id(segment): segment for prefix in prefixes for segment in prefix}.values())
        starts = np.cumsum([0, *(segment.length for segment in unique)])
        spans = {id(s): (int(a), int(b)) for s, a, b in zip(unique, starts, starts[1:], strict=False)}
        self._spans = [[spans[id(segment)] for segment in prefix] for prefix in prefixes]
        self._lengths = [sum(segment.length for segment in prefix) for prefix in prefixes]
        self._buffer = KeyValueBuffer(model, unique, room)
        self.passes = 0
        self.evaluated = 0

    def evaluate(self, nodes: Sequence[Node]) -> None:
        """Fills in ``path`` and, where wanted, ``logits`` of new nodes; parents come before children.

        Raises:
            NonFiniteLogitsError
        """
        first = self._buffer.length
        mask = np.zeros((len(nodes), first + len(nodes)), dtype=bool)
        positions = np.empty(len(nodes), dtype=np.int64)
        for row, node in enumerate(nodes):
            before = np.empty(0, np.int64) if node.parent is None else node.parent.path
            node.path = np.append(before, first + row)
            positions[row] = self._lengths[node.prompt] + len(before)
            for start, end in self._spans[node.prompt]:
                mask[row, start:end] = True
            mask[row, node.path] = True
        device = self._model.device
        tokens = torch.tensor([node.token for node in nodes], device=device)
        hidden = run_llm(
            self._model,
            self._model.embed_ids(tokens),
            torch.from_numpy(positions).to(device),
            torch.from_numpy(mask).to(device),
            self._buffer,
        )
        self.passes += 1
        self.evaluated += len(nodes)
        groups: dict[int, list[int]] = {}
        for row, node in enumerate(nodes):
            if node.wants_logits:
                groups.setdefault(id(node.scored), []).append(row)
        for rows in groups.values():
            logits = self._logits(hidden[rows], nodes[rows[0]].scored)
            for row, values in zip(rows, logits, strict=True):
                nodes[row].logits = values

    def _logits(self, hidden: torch.Tensor, scored: torch.Tensor | None) -> torch.Tensor:
        head = self._model.llm.lm_head
        logits = (head(hidden) if scored is None else F.linear(hidden, head.weight[scored])).float()
        if not torch.isfinite(logits).all():
            raise NonFiniteLogitsError(f"in pass {self.passes} after the prompt")
        if scored is None:
            return logits
        return logits.new_full((len(hidden), len(head.weight)), -torch.inf).index_copy(1, scored, logits)


def together(*decoders: Decoder[Any]) -> Decoder[list[Any]]:
    """Runs decoders side by side; returns their results in order."""
    results: list[Any] = [None] * len(decoders)
    active = dict(enumerate(decoders))
    while active:
        wanted: list[Node] = []
        for index, decoder in list(active.items()):
            try:
                wanted += next(decoder)
            except StopIteration as stop:
                results[index] = stop.value
                del active[index]
        # Two decoders may ask for the same continuation.
        new = list({id(node): node for node in wanted if node.path is None}.values())
        if new:
            yield new
    return results


def decode(tree: TokenTree, decoders: Sequence[Decoder[Result]]) -> list[Result]:
    """Runs decoders of any of the tree's prompts to their end, one pass for all at a time."""
    main = together(*decoders)
    while True:
        try:
            nodes = next(main)
        except StopIteration as stop:
            return stop.value
        tree.evaluate(nodes)
