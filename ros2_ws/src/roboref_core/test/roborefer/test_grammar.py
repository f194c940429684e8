"""The answer grammar, over tokens of any kind, and the numbers that are decoded with it."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.models.roborefer.decoding.grammar import END, START, TokenGrammar, forced_text, walk
from roboref_core.models.roborefer.decoding.pointing import PointingDecoder
from roboref_core.models.roborefer.decoding.tree import Node
from roboref_core.prompting.answer_text import NOT_VISIBLE, parse

SINGLE = {"numbers": "single"}
KINDS = (SINGLE, {"numbers": "merged"}, {"numbers": "whole", "vocabulary": 1600}, {"numbers": "crossing"})


class TestGrammar:
    @given(st.text(alphabet="[](), .0123456789NOT_VISIBLE", max_size=40))
    def test_walk_accepts_beginnings_only(self, written, text):
        assert (walk(START, text) is not None) == written.is_beginning(text, 3)

    @given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1, max_size=4))
    def test_walk_ends_with_whole_answers(self, points):
        answer = "[" + ", ".join(f"(0.{x:03}, 0.{y:03})" for x, y in points) + "]"
        for cut in range(len(answer)):
            state = walk(START, answer[:cut])
            assert state not in (None, END)
            forced = forced_text(state, may_open=True)
            assert answer[cut:].startswith(forced)
        assert walk(START, answer) == END and walk(START, answer + "]") is None

    def test_every_token_is_judged_by_its_text(self, random_backend, written):
        for dimensions in KINDS:
            backend = random_backend(dimensions)
            grammar, tokenizer = backend._grammar, backend.model.tokenizer
            for text in ("", "[", "[(0.1", "[(0.12", "[(0.123", "[(0.123, 0.45", "NOT", "[(0.123, 0.456)"):
                state = walk(START, text)
                found = {t.token for t in grammar.transitions(state)}
                special = set(tokenizer.all_special_ids)
                for token in range(len(tokenizer)):
                    piece = tokenizer.decode([token])
                    expected = token not in special and piece != "" and written.is_beginning(text + piece, 4)
                    assert (token in found) == expected, (text, piece)

    def test_coordinates_added_to_a_tokenizer(self, random_backend):
        """Tokens that were added later are not special: they are text like any other."""
        tokenizer = random_backend(SINGLE).model.tokenizer
        numbers = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        assert "0.535" not in numbers
        tokenizer.add_tokens([f"0.{number:03}" for number in range(1000)])
        grammar = TokenGrammar(tokenizer, torch.device("cpu"))
        texts = {t.text for t in grammar.transitions(walk(START, "[("))}
        assert {f"0.{number:03}" for number in range(1000)} < texts
        ids, state = grammar.spell(START, "[(0.")
        assert tokenizer.decode(ids) == "[(" and state == walk(START, "[(")

    def test_tokens_without_single_characters(self):
        """It is enough that both kinds of answer can be spelled; what leads nowhere is not begun."""
        words = ("[(", "0.535", ", 0.123", ", ", ")]", "), (", "NOT_VISIBLE", "NOT", "[(0", ")")
        grammar = TokenGrammar(Words(*words), torch.device("cpu"))
        assert [t.text for t in grammar.transitions(START)] == ["[(", "NOT_VISIBLE"]
        assert {t.text for t in grammar.transitions(walk(START, "[(0.535, 0.123"))} == {")]", "), ("}
        for missing in ("NOT_VISIBLE", "0.535", ")]"):
            with pytest.raises(ValueError, match="cannot spell"):
                TokenGrammar(Words(*(word for word in words if word != missing)), torch.device("cpu"))


class Words:
    """A tokenizer that has words only; it cuts text into the longest that fit."""

    all_special_ids, added_tokens_decoder = (), {}

    def __init__(self, *words: str):
        self.words = words

    def get_vocab(self) -> dict[str, int]:
        return {word.replace(" ", "Ġ"): index for index, word in enumerate(self.words)}

    def convert_tokens_to_string(self, pieces: list[str]) -> str:
        return "".join(pieces).replace("Ġ", " ")

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        ids = []
        while fitting := [word for word in self.words if text.startswith(word)]:
            ids.append(self.words.index(max(fitting, key=len)))
            text = text[len(self.words[ids[-1]]) :]
        return SimpleNamespace(input_ids=ids)


NUMBERS_AND_BRACKETS = (
    ("[(0.535", "[(0.123", ", 0.123)", ", 0.999)", "]", ", (0.535", "NOT_VISIBLE"),
    ("[(", "0.535", "0.123", "0.999", ", ", ")]", "), (", "NOT_VISIBLE", "NOT_", "VISIBLE"),
    ("[(0.5", "[(0.", "35", "12", "3", ", 0.9", "99), (0.12", "99)]", "99", ")", ")]", "NOT_VISIBLE"),
)


@pytest.mark.parametrize("words", NUMBERS_AND_BRACKETS)
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_numbers_in_tokens_of_any_kind(written, words, seed, max_points):
    """Against greedy decoding and the exact distribution of the first number, with logits drawn for each text."""

    def logits_of(text: str) -> np.ndarray:
        key = [seed, *text.encode()]
        return np.random.default_rng(key).normal(0, 2, len(words)).astype(np.float32)

    def allowed(text: str) -> dict[int, str]:
        def ends(text: str) -> bool:
            grown = [text + word for word in words if written.is_beginning(text + word, max_points)]
            return written.is_whole(text) or any(ends(g) for g in grown)

        grown = {i: text + word for i, word in enumerate(words)}
        return {i: g for i, g in grown.items() if written.is_beginning(g, max_points) and ends(g)}

    def text_of(node: Node | None) -> str:
        return "" if node is None or node.token < 0 else text_of(node.parent) + words[node.token]

    text, before, steps = "", None, 0
    while not written.is_whole(text):
        grown, logits = allowed(text), logits_of(text)
        best = grown[max(grown, key=lambda token: logits[token])]
        before = text if before is None and len(best) > len("[(0.") and best.startswith("[") else before
        steps += before is not None and len(text) < len("[(0.ddd")
        text = best
    decoder = PointingDecoder(TokenGrammar(Words(*words), torch.device("cpu")), max_points).decode([Node(0, None, -1)])
    evaluated = {""}
    try:
        nodes = next(decoder)
        while True:
            for node in nodes:
                evaluated.add(text_of(node))
                node.path, node.logits = np.zeros(1, int), torch.from_numpy(logits_of(text_of(node)))
            nodes = next(decoder)
    except StopIteration as stop:
        answer = stop.value
    assert answer.text == text and answer.visible == (text != NOT_VISIBLE)
    assert np.isfinite(answer.log_odds)
    if not answer.visible:
        return
    np.testing.assert_allclose(answer.points, parse(text).points)

    unfollowed = 0.0

    def masses(text: str, mass: float, greedy: bool, followed: bool, depth: int) -> dict[str, float]:
        """Digits -> P of what goes on from a text of this mass.

        Sums up what is below branches that are not followed, or of more tokens than the greedy number.
        """
        nonlocal unfollowed
        if len(text) >= len("[(0.ddd"):
            unfollowed += 0.0 if followed else mass
            return {text[4:7]: mass}
        followed &= greedy or (text in evaluated and depth < steps)
        grown = {token: g for token, g in allowed(text).items() if g.startswith("[(0."[: len(g)])}
        logits = logits_of(text)[list(grown)]
        shares = torch.softmax(torch.from_numpy(logits).double(), 0).tolist()
        total: dict[str, float] = {}
        for k, (g, share) in enumerate(zip(grown.values(), shares, strict=True)):
            for digits, p in masses(g, mass * share, greedy and k == logits.argmax(), followed, depth + 1).items():
                total[digits] = total.get(digits, 0.0) + p
        return total

    spread = masses(before, 1.0, True, True, 0)
    values, shares = np.array([int(digits) for digits in spread]) / 1000, np.array(list(spread.values()))
    variance = shares @ (values - shares @ values) ** 2
    # Numbers lie in [0, 1]: moving a mass within it changes the variance by no more than that mass.
    assert answer.covariances[0][0, 0] == pytest.approx(variance, abs=unfollowed + 1e-6)


DIGITS_ALONE = ("[(0.", ", 0.", ")]", "NOT_VISIBLE", *"0123456789")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.002, 0.3), st.floats(0.05, 1)), min_size=1, max_size=3))
def test_spread_of_a_number_from_few_of_its_branches(parts):
    """Mixtures of Gaussians over the numbers, of which the branches that matter alone are asked."""
    numbers = np.arange(1000) / 1000
    shares = sum(w * np.exp(-0.5 * ((numbers - m) / s) ** 2) / s for m, s, w in parts) + 1e-9
    shares /= shares.sum()

    def logits_of(text: str) -> np.ndarray:
        number = re.search(r"0\.(\d{0,2})$", text)
        if number is None:
            return np.zeros(len(DIGITS_ALONE), np.float32)
        below = shares.reshape(10 ** len(number[1]), -1)[int(number[1] or 0)].reshape(10, -1).sum(1)
        return np.log(np.concatenate([np.full(4, 1e-12), below / below.sum() + 1e-12])).astype(np.float32)

    asked = 0
    grammar = TokenGrammar(Words(*DIGITS_ALONE), torch.device("cpu"))
    decoder = PointingDecoder(grammar, 1).decode([Node(0, None, -1)])
    answer = None
    while answer is None:
        try:
            for node in next(decoder):
                branch, text = node, ""
                while branch is not None and branch.token >= 0:
                    branch, text = branch.parent, DIGITS_ALONE[branch.token] + text
                asked += 1
                node.path, node.logits = np.zeros(1, int), torch.from_numpy(logits_of(text))
        except StopIteration as stop:
            answer = stop.value
    spread = np.sqrt(shares @ (numbers - shares @ numbers) ** 2)
    for axis in (0, 1):
        assert np.sqrt(answer.covariances[0][axis, axis]) == pytest.approx(spread, rel=0.15, abs=1e-3)
    # With the ten first digits of both numbers, and what is around them; all branches would be 220.
    assert asked < 60
