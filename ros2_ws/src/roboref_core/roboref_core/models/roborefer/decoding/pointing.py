"""Grammar-constrained greedy decoding of points, with probabilities.

The answer is the greedy one among those of the grammar: equal to the free greedy answer whenever
that one is in the grammar. Text without a choice is drafted, evaluated in one pass with what comes
before it, and kept as far as the model's own choice of tokens agrees; likely digits are evaluated
side by side. A single point takes three passes of the LLM after the prompt's; one, if numbers are tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from roboref_core.models.roborefer.decoding.digits import Leaf, Number, worth_following
from roboref_core.models.roborefer.decoding.grammar import (
    DIGITS,
    END,
    NUMBER_STARTS,
    NUMBERS,
    START,
    TokenGrammar,
    Transition,
    forced_text,
    number_lead,
    walk,
    walk_on,
)
from roboref_core.models.roborefer.decoding.likelihood import POINTING, pointing_log_odds
from roboref_core.models.roborefer.decoding.tree import Decoder, Node, together
from roboref_core.prompting.answer_text import NOT_VISIBLE

# A number's branches are followed as far as its variance needs them, or if further points are wanted, while they have
# this mass; at most so many side by side.
_VARIANCE_TOLERANCE = 0.1
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
        if child is not None and child.logits is not None:
            self.node, self.pending = child, None
        else:
            self.pending = token
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
        grammar: grammar of answers, in tokens of the model's tokenizer.
        max_points: tuples that an answer may have.
        candidates: points wanted; alternatives to the first tuple fill up what the answer lacks.
    """

    def __init__(self, grammar: TokenGrammar, max_points: int = 16, candidates: int = 1):
        if max_points < 1 or candidates < 1:
            raise ValueError(f"max_points and candidates must be at least 1, found {max_points} and {candidates}")
        self._grammar = grammar
        self._max_points = max_points
        self._candidates = candidates
        self._pointing, self._pointing_end = grammar.spell(START, POINTING)
        # The last token of a whole answer needs no evaluation.
        self._refusing = grammar.spell(START, NOT_VISIBLE)[0][:-1]

    def decode(self, prompt: list[Node]) -> Decoder[PointingAnswer]:
        """Decodes the answer after a chain of nodes, none of them evaluated yet."""
        root = prompt[-1]
        pointing = root.chain(self._pointing)
        digits = self._first_digits([root, *pointing][-1], self._pointing_end)
        yield [*prompt, *pointing, *digits, *root.chain(self._refusing)]
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
            if number := (yield from self._step(cursor)):
                numbers.append(number)
            # A token may hold a number and more.
            whole = _WHOLE_NUMBER.findall(cursor.text)
            numbers += [Number.unresolved(digits) for digits in whole[len(numbers) :]]

    def _step(self, cursor: _Cursor) -> Decoder[Number | None]:
        """Takes the best token after an evaluated node; a number that it belongs to is decoded to its end."""
        if cursor.state in NUMBERS:
            return (yield from self._number(cursor))
        transitions, probabilities = self._choices(cursor.node, cursor.state, cursor.opened)
        best = transitions[int(np.argmax(probabilities))]
        if lead := number_lead(cursor.state, best.text):
            return (yield from self._number(cursor, lead))
        cursor.take(best)
        return None

    def _advance(self, cursor: _Cursor) -> Decoder[None]:
        """Evaluates the pending token together with drafts of what may follow it."""
        pending = cursor.pending
        assert pending is not None
        may_open = cursor.opened < self._max_points
        rest = forced_text(cursor.state, may_open)
        after = walk_on(cursor.state, rest)
        drafts = [rest]
        if after not in NUMBERS and may_open:
            # A tuple is closed: the answer ends, or goes on with another.
            drafts = [rest + "]", rest + "," + forced_text(walk_on(after, ","), may_open)]
        nodes = cursor.node.chain([pending])
        for draft in drafts:
            tokens, end = self._grammar.spell(cursor.state, draft)
            branch = nodes[0].chain(tokens[:-1] if end == END else tokens)
            nodes += [*branch, *self._first_digits([nodes[0], *branch][-1], end)]
        # Some of it may be evaluated already, as far as another branch has asked for it.
        yield [node for node in nodes if node.logits is None]
        cursor.go(pending, cursor.state)

    def _first_digits(self, node: Node, state: int) -> list[Node]:
        """The tokens that may begin a number after a node, where each is a single digit."""
        transitions = self._grammar.transitions(state) if state in NUMBER_STARTS else []
        if any(len(t.text) > 1 for t in transitions):
            return []
        return [self._digit(node, t.token) for t in transitions]

    def _digit(self, node: Node, token: int) -> Node:
        """A continuation within a number. From here on only the grammar's tokens matter, not the whole vocabulary."""
        child = node.child(token)
        child.scored = self._grammar.all_ids
        return child

    def _choices(self, node: Node, state: int, opened: int, lead: str = "") -> tuple[list[Transition], np.ndarray]:
        """The tokens that the grammar allows after an evaluated node, and their probabilities among themselves.

        Only those that begin with ``lead``, or that it begins with.
        """
        transitions = self._grammar.transitions(state)
        logits = node.evaluated[self._grammar.ids(state)].double().cpu().numpy()
        if lead or opened + max(t.opens for t in transitions) > self._max_points:
            allowed = [
                index
                for index, t in enumerate(transitions)
                if opened + t.opens <= self._max_points and t.text[: len(lead)] == lead[: len(t.text)]
            ]
            transitions, logits = [transitions[index] for index in allowed], logits[allowed]
        shares = np.exp(logits - logits.max())
        return transitions, shares / shares.sum()

    def _number(self, cursor: _Cursor, lead: str = "") -> Decoder[Number]:
        """Decodes a number at the cursor, and the distribution over what it might have been.

        Args:
            lead: text still to come before the number's digits, where one token may hold both.
        """
        leaves: list[Leaf] = []
        origin, known = NUMBERS.get(cursor.state, (cursor.state, 0))
        length = len(lead) + DIGITS
        greedy = cursor.node
        active = [(greedy, cursor.text[len(cursor.text) - known :], 1.0)]
        chosen: Leaf | None = None
        while chosen is None:
            grown: list[tuple[Node, str, float]] = []
            for node, before, mass in active:
                state, ahead = walk_on(origin, before), lead[len(before) :]
                transitions, probabilities = self._choices(node, state, cursor.opened, ahead)
                best = int(np.argmax(probabilities))
                for index, (transition, probability) in enumerate(zip(transitions, probabilities, strict=True)):
                    text, share = before + transition.text, mass * float(probability)
                    if len(text) >= length:
                        digits, rest = text[len(lead) : length], text[length:]
                        leaves.append(Leaf(digits, share, node, transition.token, transition.state, rest))
                        follow = greedy  # the number ends here: nothing of it follows
                    else:
                        follow = (self._digit if len(text) > len(lead) else Node.child)(node, transition.token)
                        grown.append((follow, text, share))
                    if node is greedy and index == best:
                        cursor.node = node
                        cursor.take(transition)
                        chosen = leaves[-1] if len(text) >= length else None
                        followed = follow
            greedy = followed
            grown.sort(key=lambda branch: (branch[0] is not greedy, -branch[2]))
            branches = [Leaf(text[len(lead) :], share) for _, text, share in grown]
            keep = [] if chosen else self._followed(branches, leaves)
            leaves += [branch for k, branch in enumerate(branches) if k not in keep]
            active = [grown[k] for k in keep]
            if new := [node for node, _, _ in active if node.logits is None]:
                yield new
        return Number.unresolved(chosen.digits) if known else Number(chosen, leaves)

    def _followed(self, branches: list[Leaf], leaves: list[Leaf]) -> list[int]:
        """Of the branches of a number, the greedy one first, those to be evaluated."""
        if self._candidates > 1:
            # Other points are looked for among them.
            likely = [k for k, branch in enumerate(branches) if k and branch.mass >= _MIN_BRANCH_MASS]
        else:
            likely = [k for k in worth_following(leaves, branches, _VARIANCE_TOLERANCE) if k]
        return [0, *likely[: _MAX_BRANCHES - 1]]

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
        assert leaf.node is not None  # whole numbers know where they end
        cursor = _Cursor(leaf.node, opened=1, text=leaf.rest)
        cursor.go(leaf.token, leaf.state)
        while (whole := _WHOLE_NUMBER.search(cursor.text)) is None:
            if cursor.pending is not None:
                yield from self._advance(cursor)
            if number := (yield from self._step(cursor)):
                return number
        return Number.unresolved(whole[1])
