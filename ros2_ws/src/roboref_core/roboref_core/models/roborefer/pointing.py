"""Grammar-constrained greedy decoding of points, with probabilities.

The answer is the greedy one among those of the grammar: equal to the free greedy answer whenever
that one is in the grammar. Text without a choice is drafted, evaluated in one pass with what comes
before it, and kept as far as the model's own choice of tokens agrees; likely digits are evaluated
side by side. A single point takes three passes of the LLM after the prompt's.
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import torch

from roboref_core.answer_text import NOT_VISIBLE
from roboref_core.models.roborefer.digits import Leaf, Number
from roboref_core.models.roborefer.grammar import (
    DIGITS,
    END,
    NUMBER_STARTS,
    NUMBERS,
    START,
    TokenGrammar,
    Transition,
    forced_text,
    walk,
)
from roboref_core.models.roborefer.likelihood import POINTING, pointing_log_odds
from roboref_core.models.roborefer.tree import Decoder, Node, together

# A number's branches are followed while they have this mass, at most so many side by side.
_MIN_BRANCH_MASS = 0.01
_MAX_BRANCHES = 10
# Candidates differ by at least this in x or in y.
_SEPARATION = 0.05
_WHOLE_NUMBER = re.compile(rf"0\.(\d{{{DIGITS}}})")


@dataclass(frozen=True)
class PointingAnswer:
    """What the decoder found.

    Attributes:
        text: the greedy answer.
        points: (N, 2) normalised (x, y): the answer's, then further candidates, best first.
        covariances: (N, 2, 2) of each point's digit distributions, x and y taken as independent given
            what is before them. Where there are further candidates, each has its own part of the distribution.
        scores: (N,) probability of exactly the point's digits, given that a point follows.
        log_odds: see ``pointing_log_odds``.
    """

    text: str
    points: np.ndarray
    covariances: np.ndarray
    scores: np.ndarray
    log_odds: float

    @property
    def visible(self) -> bool:
        return self.text != NOT_VISIBLE


@dataclass
class _Cursor:
    """A branch: the last evaluated node, at most one token chosen after it, and the grammar's state after both."""

    node: Node
    state: int = START
    opened: int = 0
    pending: int | None = None
    text: str = ""

    def take(self, transition: Transition) -> None:
        self.text += transition.text
        self.opened += transition.opens
        self.go(transition.token, transition.state)

    def go(self, token: int, state: int) -> None:
        child = self.node.children.get(token)
        evaluated = child is not None and child.logits is not None
        self.node, self.pending = (child, None) if evaluated else (self.node, token)
        self.state = state


@dataclass(frozen=True)
class _Candidate:
    """A point: a mode of either coordinate's distribution, among the modes that share that distribution."""

    x: Number
    x_mode: Leaf
    x_modes: list[Leaf]
    y: Number
    y_mode: Leaf
    y_modes: list[Leaf]

    @property
    def point(self) -> tuple[float, float]:
        return self.x_mode.value, self.y_mode.value

    @property
    def covariance(self) -> np.ndarray:
        return np.diag(
            [self.x.variance_around(self.x_mode, self.x_modes), self.y.variance_around(self.y_mode, self.y_modes)]
        )

    @property
    def score(self) -> float:
        return self.x.probability(self.x_mode) * self.y.probability(self.y_mode)


class PointingDecoder:
    """Decodes points and probabilities.

    Args:
        grammar: of the model's tokenizer.
        max_points: tuples that an answer may have.
        candidates: points wanted; alternatives to the first tuple fill up what the answer lacks.
    """

    def __init__(self, grammar: TokenGrammar, max_points: int = 16, candidates: int = 1):
        if max_points < 1 or candidates < 1:
            raise ValueError(f"max_points and candidates must be at least 1, found {max_points} and {candidates}")
        self._grammar = grammar
        self._max_points = max_points
        self._candidates = candidates
        self._drafts = [grammar.spell(POINTING), grammar.spell(NOT_VISIBLE)[:-1]]

    def decode(self, prompt: list[Node]) -> Decoder[PointingAnswer]:
        """Decodes the answer after a chain of nodes, none of them evaluated yet."""
        root = prompt[-1]
        pointing, refusing = (root.chain(draft) for draft in self._drafts)
        digits = self._first_digits(pointing[-1], walk(START, POINTING)) if pointing else []
        yield [*prompt, *pointing, *digits, *refusing]
        (numbers, text), log_odds = yield from together(
            self._answer(_Cursor(root)), pointing_log_odds(root, self._grammar)
        )
        found = [
            _Candidate(x, x.chosen, [x.chosen], y, y.chosen, [y.chosen])
            for x, y in zip(numbers[::2], numbers[1::2], strict=True)
        ]
        if found and len(found) < self._candidates:
            first, *rest = yield from self._alternatives(found[0])
            found = [first, *found[1:], *rest][: self._candidates]
        return PointingAnswer(
            text=text,
            points=np.array([candidate.point for candidate in found]).reshape(-1, 2),
            covariances=np.array([candidate.covariance for candidate in found]).reshape(-1, 2, 2),
            scores=np.array([candidate.score for candidate in found]),
            log_odds=log_odds,
        )

    def _answer(self, cursor: _Cursor) -> Decoder[tuple[list[Number], str]]:
        numbers: list[Number] = []
        while True:
            rest = forced_text(cursor.state, cursor.opened < self._max_points)
            if walk(cursor.state, rest) == END:
                return numbers, cursor.text + rest
            if cursor.pending is not None:
                yield from self._advance(cursor)
            if cursor.state in NUMBERS:
                numbers.append((yield from self._number(cursor)))
            else:
                self._take_best(cursor)
            # A token may hold a number and more.
            whole = _WHOLE_NUMBER.findall(cursor.text)
            numbers += [Number.unresolved(digits) for digits in whole[len(numbers) :]]

    def _take_best(self, cursor: _Cursor) -> None:
        transitions, probabilities = self._choices(cursor.node, cursor.state, cursor.opened)
        cursor.take(transitions[int(np.argmax(probabilities))])

    def _advance(self, cursor: _Cursor) -> Decoder[None]:
        """Evaluates the pending token together with drafts of what may follow it."""
        may_open = cursor.opened < self._max_points
        rest = forced_text(cursor.state, may_open)
        after = walk(cursor.state, rest)
        drafts = [rest]
        if after not in NUMBER_STARTS and may_open:
            # A tuple is closed: the answer ends, or goes on with another.
            drafts = [rest + "]", rest + "," + forced_text(walk(after, ","), may_open)]
        nodes = cursor.node.chain([cursor.pending])
        for draft in drafts:
            tokens = self._grammar.spell(draft)
            end = walk(cursor.state, draft)
            # The last token of the whole answer needs no evaluation.
            branch = nodes[0].chain(tokens[:-1] if end == END else tokens)
            nodes += [*branch, *(self._first_digits([nodes[0], *branch][-1], end) if tokens or not draft else [])]
        # Some of it may be evaluated already, as far as another branch has asked for it.
        yield [node for node in nodes if node.logits is None]
        cursor.go(cursor.pending, cursor.state)

    def _first_digits(self, node: Node, state: int) -> list[Node]:
        """The tokens of one digit after a node at the beginning of a number."""
        if state not in NUMBER_STARTS:
            return []
        return [self._digit(node, t.token) for t in self._grammar.transitions(state) if len(t.text) == 1]

    def _digit(self, node: Node, token: int) -> Node:
        """A continuation within a number. From here on only the grammar's tokens matter, not the whole vocabulary."""
        child = node.child(token)
        child.scored = self._grammar.all_ids
        return child

    def _choices(self, node: Node, state: int, opened: int) -> tuple[list[Transition], np.ndarray]:
        """The tokens that the grammar allows after an evaluated node, and their probabilities among themselves."""
        transitions = self._grammar.transitions(state)
        logits = node.logits[self._grammar.ids(state)].double()
        if opened + max(t.opens for t in transitions) > self._max_points:
            allowed = [opened + t.opens <= self._max_points for t in transitions]
            logits[~torch.tensor(allowed, device=logits.device)] = -math.inf
        return transitions, torch.softmax(logits, 0).cpu().numpy()

    def _number(self, cursor: _Cursor) -> Decoder[Number]:
        """Decodes a number at the cursor, and the distribution over what it might have been."""
        leaves: list[Leaf] = []
        start, known = NUMBERS[cursor.state]
        greedy = cursor.node
        active = [(greedy, cursor.text[len(cursor.text) - known :], 1.0)]
        chosen: Leaf | None = None
        while chosen is None:
            grown: list[tuple[Node, str, float]] = []
            for node, digits, mass in active:
                state = walk(start, digits)
                transitions, probabilities = self._choices(node, state, cursor.opened)
                best = int(np.argmax(probabilities))
                for index, (transition, probability) in enumerate(zip(transitions, probabilities, strict=True)):
                    text, share = digits + transition.text, mass * float(probability)
                    if len(text) >= DIGITS:
                        whole, rest = text[:DIGITS], text[DIGITS:]
                        leaves.append(Leaf(whole, share, node, transition.token, transition.state, rest))
                    else:
                        grown.append((self._digit(node, transition.token), text, share))
                    if node is greedy and index == best:
                        cursor.node = node
                        cursor.take(transition)
                        chosen = leaves[-1] if len(text) >= DIGITS else None
                        followed = self._digit(node, transition.token)
            greedy = followed
            grown.sort(key=lambda branch: (branch[0] is not greedy, -branch[2]))
            keep = 0 if chosen else 1 + sum(share >= _MIN_BRANCH_MASS for _, _, share in grown[1:_MAX_BRANCHES])
            leaves += [Leaf(digits, share) for _, digits, share in grown[keep:]]
            active = grown[:keep]
            if new := [node for node, _, _ in active if node.logits is None]:
                yield new
        return Number.unresolved(chosen.digits) if known else Number(chosen, leaves)

    def _alternatives(self, first: _Candidate) -> Decoder[list[_Candidate]]:
        """The first point again, and others that its digits' distributions make likely, best first."""
        x_modes = first.x.modes(self._candidates, _SEPARATION)
        others = yield from together(*(self._second_number(leaf) for leaf in x_modes[1:]))
        found = []
        for x_mode, y in zip(x_modes, [first.y, *others], strict=True):
            y_modes = y.modes(self._candidates, _SEPARATION)
            found += [_Candidate(first.x, x_mode, x_modes, y, y_mode, y_modes) for y_mode in y_modes]
        return [found[0], *sorted(found[1:], key=lambda candidate: -candidate.score)]

    def _second_number(self, leaf: Leaf) -> Decoder[Number]:
        """The y that follows an x other than the chosen one."""
        cursor = _Cursor(leaf.node, opened=1, text=leaf.rest)
        cursor.go(leaf.token, leaf.state)
        while (whole := _WHOLE_NUMBER.search(cursor.text)) is None:
            if cursor.pending is not None:
                yield from self._advance(cursor)
            if cursor.state in NUMBERS:
                return (yield from self._number(cursor))
            self._take_best(cursor)
        return Number.unresolved(whole[1])
