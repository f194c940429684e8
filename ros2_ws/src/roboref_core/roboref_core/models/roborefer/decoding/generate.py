"""Free greedy decoding, as the reference does it."""

from __future__ import annotations

import torch

from roboref_core.models.roborefer.decoding.tree import Decoder, Node


def greedy(prompt: list[Node], stop_ids: tuple[int, ...], max_new_tokens: int) -> Decoder[list[int]]:
    """Token ids of the most likely continuation, token by token, up to and with a stop id.

    Args:
        prompt: chain of nodes, none of them evaluated yet.
        max_new_tokens: the reference's max_length less the prompt's positions.
    """
    yield prompt
    node = prompt[-1]
    tokens: list[int] = []
    while True:
        tokens.append(int(torch.argmax(node.evaluated)))
        # Nothing else is predicted from this node.
        node.logits = None
        if tokens[-1] in stop_ids or len(tokens) >= max_new_tokens:
            return tokens
        node = node.child(tokens[-1])
        yield [node]
