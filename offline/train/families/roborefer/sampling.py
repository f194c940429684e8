"""One sampled answer as a decoder of the token tree: answers to the same question share its prefill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from roboref_core.models.roborefer.decoding.grammar import END, START, TokenGrammar
from roboref_core.models.roborefer.decoding.tree import Decoder, Node

# No tuple has more tokens than characters.
_LONGEST_TUPLE = len("(0.123, 0.456), ")


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; see ``plan.Reinforcement``.

    Attributes:
        stop_ids: tokens that end an answer.
        vocabulary: number of logits.
        grammar: of the answers that may be drawn; None: any text.
    """

    temperature: float
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    vocabulary: int
    grammar: TokenGrammar | None = None


def draw_answer(prompt: Node, sampling: Sampling, rng: np.random.Generator) -> Decoder[tuple[int, ...]]:
    """Draws token after token, up to and with a stop token, or ``max_new_tokens`` of them.

    Args:
        prompt: the last token of the question; not evaluated yet, or by another answer's decoder.
    """
    if prompt.logits is None:
        yield [prompt]
    node, tokens, state = prompt, list[int](), START
    while len(tokens) < sampling.max_new_tokens:
        if state == END:
            return (*tokens, sampling.stop_ids[0])
        assert node.logits is not None
        allowed = allowed_ids(sampling.grammar, state, sampling.max_new_tokens - len(tokens))
        logits = node.logits if allowed is None else node.logits[allowed]
        pick = _pick(logits / sampling.temperature, rng)
        token = pick if allowed is None else int(allowed[pick])
        tokens.append(token)
        if sampling.grammar is not None:
            state = next_state(sampling.grammar, state, token)
        elif token in sampling.stop_ids:
            break
        if len(tokens) < sampling.max_new_tokens and state != END:
            node = node.child(token)
            if node.logits is None:
                yield [node]
    return tuple(tokens)


def allowed_ids(grammar: TokenGrammar | None, state: int, room: int) -> torch.Tensor | None:
    """Tokens that may come next; None: all. With little room left, none that opens another point."""
    if grammar is None:
        return None
    transitions = grammar.transitions(state)
    closing = [t.token for t in transitions if not t.opens or state == START]
    if room <= _LONGEST_TUPLE and len(closing) < len(transitions):
        return torch.tensor(closing, device=grammar.all_ids.device)
    return grammar.ids(state)


def next_state(grammar: TokenGrammar, state: int, token: int) -> int:
    """The grammar's state after a token that it allows."""
    return next(t.state for t in grammar.transitions(state) if t.token == token)


def allowed_tokens(answer: Sequence[int], sampling: Sampling) -> torch.Tensor:
    """(len(answer), vocabulary) bool: the tokens among which each token of a drawn answer was drawn."""
    grammar = sampling.grammar
    assert grammar is not None
    allowed = torch.zeros(len(answer), sampling.vocabulary, dtype=torch.bool)
    state = START
    for index, token in enumerate(answer):
        if state == END:
            # What ends the answer was not drawn.
            allowed[index, token] = True
            continue
        ids = allowed_ids(grammar, state, sampling.max_new_tokens - index)
        allowed[index, ids] = True
        state = next_state(grammar, state, token)
    return allowed


def _pick(logits: torch.Tensor, rng: np.random.Generator) -> int:
    """An index drawn by the inverse of the distribution function, in float64: equal logits, equal draws."""
    shares = torch.softmax(logits.double(), 0).cumsum(0).cpu().numpy()
    return int(min(np.searchsorted(shares, rng.random() * shares[-1], side="right"), len(shares) - 1))
