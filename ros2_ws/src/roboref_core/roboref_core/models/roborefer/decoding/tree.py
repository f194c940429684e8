"""Evaluating many short continuations of long prompts in one pass of the LLM.

A node is one token after a prompt; its branch back to the root is what it sees. The nodes of prompts
with the same prefix share one key/value buffer, and a mask keeps branches apart. So alternatives of one
answer, drafted text that may turn out wrong, and the questions of a batch cost one pass together, and
attention grows with each prompt's own length, not with that of the batch. Decoders are generators: they
yield the nodes that they need evaluated and go on when these carry their logits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import functional as F

from roboref_core.models.roborefer.errors import NonFiniteLogitsError
from roboref_core.models.roborefer.network.language import KeyValueBuffer, Rows, Segment, run_language_model
from roboref_core.models.roborefer.network.model import RoboReferModel

Result = TypeVar("Result")
Decoder = Generator[list["Node"], None, Result]
_MAX_GROUP = 8


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

    @property
    def evaluated(self) -> torch.Tensor:
        """The logits of a node that was evaluated for them."""
        assert self.logits is not None
        return self.logits

    @property
    def slots(self) -> np.ndarray:
        """The path of a node that was evaluated."""
        assert self.path is not None
        return self.path

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


class _Group:
    """Prompts with the same prefix: they share its keys and values."""

    def __init__(self, model: RoboReferModel, prefix: Sequence[Segment], room: int):
        self.prefix = sum(segment.length for segment in prefix)
        self.buffer = KeyValueBuffer(model, prefix, room)

    def rows(self, nodes: Sequence[Node], device: torch.device) -> Rows:
        first = self.buffer.length
        mask = np.zeros((len(nodes), first + len(nodes)), dtype=bool)
        mask[:, : self.prefix] = True
        for row, node in enumerate(nodes):
            before = np.empty(0, np.int64) if node.parent is None else node.parent.slots
            node.path = np.append(before, first + row)
            mask[row, node.path] = True
        wanted = torch.tensor([row for row, node in enumerate(nodes) if node.wants_logits], dtype=torch.long)
        return Rows(self.buffer, len(nodes), torch.from_numpy(mask).to(device), wanted.to(device))


class TokenTree:
    """Prompts' prefixes and the nodes after them.

    Args:
        model: in eval mode.
        prefixes: per prompt, the segments before its first node. Prompts whose segments are the same objects
            share them.
        room: positions to reserve for nodes of each such prefix; grows as needed.
    """

    def __init__(self, model: RoboReferModel, prefixes: Sequence[Sequence[Segment]], room: int = 256):
        self._model = model
        self._group_of: list[_Group] = []
        open_groups: dict[tuple[int, ...], list[_Group]] = {}
        for prefix in prefixes:
            members = open_groups.setdefault(tuple(map(id, prefix)), [])
            # Within a group every node's mask spans all nodes.
            members.append(members[-1] if len(members) % _MAX_GROUP else _Group(model, prefix, room))
            self._group_of.append(members[-1])
        self.passes = 0
        self.evaluated = 0

    def evaluate(self, nodes: Sequence[Node]) -> None:
        """Fills in ``path`` and, where wanted, ``logits`` of new nodes; parents come before children.

        Raises:
            NonFiniteLogitsError
        """
        device = self._model.device
        members: dict[_Group, list[Node]] = {}
        for node in nodes:
            members.setdefault(self._group_of[node.prompt], []).append(node)
        groups = [group.rows(own, device) for group, own in members.items()]
        rows = [node for own in members.values() for node in own]
        positions = [group.prefix + len(node.slots) - 1 for group, own in members.items() for node in own]
        hidden = run_language_model(
            self._model,
            self._model.embed_ids(torch.tensor([node.token for node in rows], device=device)),
            torch.tensor(positions, device=device),
            groups,
        )
        self.passes += 1
        self.evaluated += len(nodes)
        wanting = [node for node in rows if node.wants_logits]
        alike: dict[int, list[int]] = {}
        for row, node in enumerate(wanting):
            alike.setdefault(id(node.scored), []).append(row)
        for indices in alike.values():
            logits = self._logits(hidden[indices], wanting[indices[0]].scored)
            for row, values in zip(indices, logits, strict=True):
                wanting[row].logits = values

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


def decode(
    tree: TokenTree, decoders: Sequence[Decoder[Result]], before_pass: Callable[[], None] = lambda: None
) -> list[Result]:
    """Runs decoders of any of the tree's prompts to their end, one pass for all at a time.

    Args:
        before_pass: called before each pass; what it raises ends the decoding.
    """
    main = together(*decoders)
    while True:
        try:
            nodes = next(main)
        except StopIteration as stop:
            return stop.value
        before_pass()
        tree.evaluate(nodes)
