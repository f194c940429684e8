"""The answers that the pointing decoder may give, and the tokens that spell them.

``[(0.ddd, 0.ddd), (0.ddd, 0.ddd), ...]`` or ``NOT_VISIBLE``, as an automaton over characters.
Tokens are judged by their text, so numbers may be split into tokens in any way.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from roboref_core.prompting.answer_text import NOT_VISIBLE

DIGITS = 3
START, END = 0, -1
_ANY_NUMBER = "5" * DIGITS
_TUPLE_HEAD, _SEPARATOR, _NEXT = "(0.", ", 0.", ", "


def _build() -> tuple[dict[int, dict[str, int]], dict[int, tuple[int, int]]]:
    edges: dict[int, dict[str, int]] = {START: {}}

    def new() -> int:
        edges[len(edges)] = {}
        return len(edges) - 1

    def spell(state: int, text: str, last: int | None = None) -> int:
        for index, char in enumerate(text):
            follow = last if last is not None and index == len(text) - 1 else new()
            edges[state][char] = follow
            state = follow
        return state

    numbers: dict[int, tuple[int, int]] = {}

    def digits(start: int) -> int:
        state = start
        for known in range(DIGITS):
            numbers[state] = (start, known)
            follow = new()
            edges[state] = dict.fromkeys(string.digits, follow)
            state = follow
        return state

    spell(START, NOT_VISIBLE, END)
    before_tuple = spell(START, "[")
    after_x = digits(spell(before_tuple, _TUPLE_HEAD))
    after_tuple = spell(digits(spell(after_x, _SEPARATOR)), ")")
    edges[after_tuple]["]"] = END
    spell(after_tuple, _NEXT, before_tuple)
    edges[END] = {}
    return edges, numbers


# NUMBERS: for each state in which a digit comes next, the state before the first one and the digits there are.
EDGES, NUMBERS = _build()
NUMBER_STARTS = frozenset(start for start, _ in NUMBERS.values())


@dataclass(frozen=True)
class Transition:
    """A token in a state: its text, the state after it, and the tuples that it opens."""

    token: int
    text: str
    state: int
    opens: int


def walk(state: int, text: str) -> int | None:
    """The state after ``text``, or None if no answer goes that way."""
    for char in text:
        if state == END or char not in EDGES[state]:
            return None
        state = EDGES[state][char]
    return state


def walk_on(state: int, text: str) -> int:
    """The state after ``text``. Raises ValueError if no answer goes that way."""
    after = walk(state, text)
    if after is None:
        raise ValueError(f"no answer goes on with {text!r} after state {state}")
    return after


def forced_text(state: int, may_open: bool) -> str:
    """The characters that must come next, up to the first choice or the end."""
    text = ""
    while state != END:
        choices = {char: follow for char, follow in EDGES[state].items() if may_open or not _opens(state, char)}
        if len(choices) != 1:
            break
        ((char, state),) = choices.items()
        text += char
    return text


def number_lead(state: int, text: str) -> str:
    """The part of a token's text before the number that it reaches into; "" if it reaches into none."""
    for index, char in enumerate(text):
        if index and state in NUMBER_STARTS:
            return text[:index]
        state = EDGES[state][char]
    return ""


def _opens(state: int, char: str) -> bool:
    """Whether a character leads on to another tuple: the comma after a closed one."""
    return char == "," and "]" in EDGES[state]


class TokenGrammar:
    """Which tokens of a vocabulary may come next in each state of the grammar.

    Attributes:
        all_ids: every token that may occur in an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, device: torch.device):
        self._tokenizer = tokenizer
        alphabet = {char for edges in EDGES.values() for char in edges}
        special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        special |= set(tokenizer.all_special_ids)
        # Byte-level BPE writes printable ASCII as itself and the space as "Ġ".
        pieces = alphabet | {"Ġ"}
        texts: dict[int, str] = {}
        for piece, token in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
            if token in special or not piece or not set(piece) <= pieces:
                continue
            text = tokenizer.convert_tokens_to_string([piece])
            if set(text) <= alphabet and text:
                texts[token] = text
        self._transitions = self._connect(texts)
        if {t.text[0] for t in self._transitions[START]} != set(EDGES[START]):
            raise ValueError(f"the tokenizer cannot spell both points and {NOT_VISIBLE}")
        self._ids = {
            state: torch.tensor([t.token for t in found], device=device) for state, found in self._transitions.items()
        }
        used = {t.token for found in self._transitions.values() for t in found}
        self._texts = {token: text for token, text in texts.items() if token in used}
        self.all_ids = torch.tensor(sorted(used), device=device)

    @classmethod
    def _connect(cls, texts: dict[int, str]) -> dict[int, list[Transition]]:
        """Transitions of every state that tokens lead to, without those from which no answer can be ended."""
        found: dict[int, list[Transition]] = {}
        pending = [START]
        while pending:
            state = pending.pop()
            if state in found or state == END:
                continue
            reached = ((token, text, walk(state, text)) for token, text in texts.items() if text[0] in EDGES[state])
            found[state] = [
                Transition(token, text, after, cls._count_opened(state, text))
                for token, text, after in reached
                if after is not None
            ]
            pending += [t.state for t in found[state]]
        # An answer must end without another tuple: their number may be bounded.
        alive = {END}
        while grown := {
            state
            for state in found.keys() - alive
            if any(t.state in alive and t.opens <= (state == START) for t in found[state])
        }:
            alive |= grown
        return {state: [t for t in ts if t.state in alive] for state, ts in found.items() if state in alive | {START}}

    def transitions(self, state: int) -> list[Transition]:
        """All tokens that keep the text an answer's beginning."""
        return self._transitions[state]

    @staticmethod
    def _count_opened(state: int, text: str) -> int:
        """Tuples that the text opens or commits to: "[" and each comma after a closed tuple."""
        count = 0
        for char in text:
            count += char == "[" or _opens(state, char)
            state = EDGES[state][char]
        return count

    def ids(self, state: int) -> torch.Tensor:
        """Token ids of ``transitions``, in their order."""
        return self._ids[state]

    def spell(self, state: int, text: str) -> tuple[list[int], int]:
        """The tokenizer's own tokens for a text that follows a state, and the state after them.

        No tokens if they are not all in the grammar's vocabulary. Before a number, only the tokens that
        hold nothing of it: where numbers are tokens of their own, "0." is spelled by none.
        """
        end = walk(state, text)
        whole = text + _ANY_NUMBER if end in NUMBER_STARTS else text
        ids: list[int] = []
        spelled = ""
        for token in self._tokenizer(whole, add_special_tokens=False).input_ids:
            if token not in self._texts:
                return [], state
            if len(spelled) + len(self._texts[token]) > len(text):
                break
            ids.append(token)
            spelled += self._texts[token]
        return (ids, walk_on(state, spelled)) if text.startswith(spelled) else ([], state)
