"""The answers that the pointing decoder may give, and the tokens that spell them.

``[(0.ddd, 0.ddd), (0.ddd, 0.ddd), ...]`` or ``NOT_VISIBLE``, as an automaton over characters.
Tokens are judged by their text, so numbers may be split into tokens in any way.
"""
from __future__ import annotations

import string
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from roboref_core.answer_text import NOT_VISIBLE

DIGITS = 3
START, END = 0, -1
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
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        # Byte-level BPE writes printable ASCII as itself and the space as "Ġ".
        pieces = alphabet | {"Ġ"}
        self._texts: dict[int, str] = {}
        for piece, token in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
            if token in special or not piece or not set(piece) <= pieces:
                continue
            text = tokenizer.convert_tokens_to_string([piece])
            if set(text) <= alphabet and text:
                self._texts[token] = text
        self._transitions: dict[int, list[Transition]] = {}
        self._ids: dict[int, torch.Tensor] = {}
        covered = set(self._texts.values())
        if missing := sorted(alphabet - covered):
            raise ValueError(f"the tokenizer has no tokens for {missing}, which answers are made of")
        self.all_ids = torch.tensor(list(self._texts), device=device)

    def transitions(self, state: int) -> list[Transition]:
        """All tokens that keep the text an answer's beginning."""
        if state not in self._transitions:
            found = ((token, text, walk(state, text)) for token, text in self._texts.items())
            self._transitions[state] = [
                Transition(token, text, after, self._count_opened(state, text))
                for token, text, after in found
                if after is not None
            ]
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
        if state not in self._ids:
            self._ids[state] = self.all_ids.new_tensor([t.token for t in self.transitions(state)])
        return self._ids[state]

    def spell(self, text: str) -> list[int]:
        """The tokenizer's own tokens for a text; empty if they are not all in the grammar's vocabulary."""
        ids = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids if all(token in self._texts for token in ids) else []
