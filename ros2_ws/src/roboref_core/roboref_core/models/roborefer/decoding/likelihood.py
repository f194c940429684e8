"""How likely a model is to point at all: total mass of the texts that begin as a point, and of NOT_VISIBLE."""

from __future__ import annotations

import numpy as np
import torch

from roboref_core.models.roborefer.decoding.grammar import START, TokenGrammar
from roboref_core.models.roborefer.decoding.tree import Decoder, Node
from roboref_core.prompting.answer_text import NOT_VISIBLE

POINTING = "[(0."
# Spellings are followed until what is left could not change the probability of pointing by more than this.
_TOLERANCE = 1e-3
# New spellings per pass, and passes.
_WIDTH, _ROUNDS = 8, 4


def pointing_log_odds(root: Node, grammar: TokenGrammar) -> Decoder[float]:
    """ln P(text begins with "[(0.") - ln P(text begins with "NOT_VISIBLE"), over every way to split both into tokens.

    Probabilities are the model's own, over its whole vocabulary. Spellings are followed in the order of
    their mass; a canonical one that the decoder has evaluated costs nothing, and a model that was
    trained has hardly any mass elsewhere.

    Args:
        root: the evaluated last node of the prompt.
    """
    found: dict[str, list[float]] = {POINTING: [], NOT_VISIBLE: []}
    # (log mass, node before, token, text with it, grammar state): None for the root itself.
    frontier: list[tuple[float, Node, str, int]] = [(0.0, root, "", START)]
    for round_number in range(_ROUNDS + 1):
        waiting: list[tuple[float, Node, str, int]] = []
        while frontier:
            log_mass, node, text, state = frontier.pop()
            if node.logits is None:
                waiting.append((log_mass, node, text, state))
                continue
            logits = node.logits.double()
            log_probabilities = (logits[grammar.ids(state)] - torch.logsumexp(logits, 0)).tolist()
            for transition, value in zip(grammar.transitions(state), log_probabilities, strict=True):
                grown = text + transition.text
                goal = next((goal for goal in found if grown.startswith(goal)), None)
                if goal:
                    found[goal].append(log_mass + value)
                else:
                    frontier.append((log_mass + value, node.child(transition.token), grown, transition.state))
        mass = {goal: np.logaddexp.reduce(masses or [-np.inf]) for goal, masses in found.items()}
        left = {
            goal: np.logaddexp.reduce([m for m, _, text, _ in waiting if goal.startswith(text)] or [-np.inf])
            for goal in found
        }
        least = _share(mass[POINTING], np.logaddexp(mass[NOT_VISIBLE], left[NOT_VISIBLE]))
        most = _share(np.logaddexp(mass[POINTING], left[POINTING]), mass[NOT_VISIBLE])
        if round_number == _ROUNDS or most - least <= _TOLERANCE:
            break
        waiting.sort(key=lambda item: -item[0])
        yield [node for _, node, _, _ in waiting[:_WIDTH]]
        frontier = waiting
    return float(mass[POINTING] - mass[NOT_VISIBLE])


def _share(log_mass: float, log_other: float) -> float:
    return float(np.exp(log_mass - np.logaddexp(log_mass, log_other)))
