"""The pointing decoder against plain decoding of the same model, one full forward pass per token."""

from __future__ import annotations

import itertools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.answer_text import NOT_VISIBLE, parse
from roboref_core.models.base import Prompt
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.grammar import END, START, TokenGrammar, forced_text, walk
from roboref_core.models.roborefer.pointing import PointingDecoder
from roboref_core.models.roborefer.tiling import cut_tiles, to_picture
from roboref_core.models.roborefer.tree import Node, TokenTree, decode

SINGLE, MERGED, CROSSING = {"numbers": "single"}, {"numbers": "merged"}, {"numbers": "crossing"}
WHOLE = {"numbers": "whole", "vocabulary": 1600}


def is_beginning(text: str, max_points: int) -> bool:
    """Whether an answer begins so: by matching against the answers written out, not by an automaton."""
    if NOT_VISIBLE.startswith(text):
        return True
    for count in range(1, max_points + 1):
        answer = "[" + ", ".join(["(0.###, 0.###)"] * count) + "]"
        alike = (a.isdigit() if b == "#" else a == b for a, b in zip(text, answer, strict=False))
        if len(text) <= len(answer) and all(alike):
            return True
    return False


def is_whole(text: str) -> bool:
    return text == NOT_VISIBLE or text.endswith("]")


class Plain:
    """The same model without tree, cache, drafts or grammar automaton."""

    def __init__(self, backend: RoboReferBackend, prompt: Prompt):
        self.model, tokenizer = backend.model, backend.model.tokenizer
        plan = backend.prefiller.plan(prompt)
        media = {}
        for kind, arrays in (("image", prompt.images), ("depth", prompt.depths)):
            if arrays:
                config, aspect = self.model.config, backend.prefiller.aspect
                tiles = [cut_tiles(to_picture(array, kind), config, kind, aspect) for array in arrays]
                media[kind] = [tokens for features in self.model.encode(tiles, kind) for tokens in features]
        self.prompt, _ = self.model.insert_media(plan.ids, media)
        special = set(tokenizer.all_special_ids)
        self.texts = {
            token: tokenizer.decode([token]) for token in range(len(tokenizer)) if token not in special
        }

    def log_probabilities(self, tokens: list[int]) -> torch.Tensor:
        embeddings = torch.cat([self.prompt, self.model.embed_ids(torch.tensor(tokens, dtype=torch.long))])
        return torch.log_softmax(self.model.llm(inputs_embeds=embeddings[None]).logits[0, -1].double(), 0)

    def allowed(self, text: str, max_points: int) -> dict[int, str]:
        return {token: text + t for token, t in self.texts.items() if t and is_beginning(text + t, max_points)}

    def greedy(self, max_points: int) -> str:
        tokens, text = [], ""
        while not is_whole(text):
            allowed = self.allowed(text, max_points)
            scores = self.log_probabilities(tokens)
            tokens.append(max(allowed, key=lambda token: float(scores[token])))
            text = allowed[tokens[-1]]
        return text

    def mass(self, goal: str) -> float:
        """P(text begins with goal), over all token sequences that spell it, by recursion."""

        def below(tokens: list[int], text: str) -> float:
            scores = self.log_probabilities(tokens)
            total = 0.0
            for token, grown in self.allowed(text, 1).items():
                p = math.exp(float(scores[token]))
                if grown.startswith(goal):
                    total += p
                elif goal.startswith(grown):
                    total += p * below([*tokens, token], grown)
            return total

        return below([], "")

    def number(self, tokens: list[int], text: str, lead: str) -> dict[int, float]:
        """P(ddd | text + lead), over all numbers and all splits of what follows ``text`` into tokens."""

        def below(tokens: list[int], text: str) -> dict[int, float]:
            scores = self.log_probabilities(tokens)
            allowed = {t: g for t, g in self.allowed(text, 1).items() if g.startswith(before) or before.startswith(g)}
            shares = torch.softmax(scores[list(allowed)], 0).tolist()
            found: dict[int, float] = {}
            for (token, grown), share in zip(allowed.items(), shares, strict=True):
                have = grown[len(before) :]
                if len(have) >= 3:
                    found[int(have[:3])] = found.get(int(have[:3]), 0.0) + share
                else:
                    for value, p in below([*tokens, token], grown).items():
                        found[value] = found.get(value, 0.0) + share * p
            return found

        before = text + lead
        return below(tokens, text)


@pytest.fixture
def prompts(pictures):
    texts = ("Where is the cup?", "Point to the red thing.", "The left one", "Where was it before?")
    return [Prompt(text, (pictures(2 * i), pictures(2 * i + 1, 60, 100))) for i, text in enumerate(texts)]


@pytest.mark.parametrize("dimensions", [SINGLE, MERGED, WHOLE, CROSSING], ids=["single", "merged", "whole", "crossing"])
@pytest.mark.parametrize("max_points", [1, 3])
@torch.inference_mode()
def test_equals_greedy_decoding_token_by_token(random_backend, prompts, dimensions, max_points):
    backend = random_backend(dimensions, max_points=max_points)
    prompts += [Prompt("Which cup?"), Prompt("Where is it?")]
    answers = [backend.generate(prompt) for prompt in prompts]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.text == Plain(backend, prompt).greedy(max_points)
        assert answer.visible == (answer.text != NOT_VISIBLE)
        if answer.visible:
            np.testing.assert_allclose(answer.points, parse(answer.text).points)
    assert len({answer.text for answer in answers}) > 1


@torch.inference_mode()
def test_on_every_recording(recording):
    """Random weights leave the grammar at once: then the answer is the best one within it."""
    free = RoboReferBackend.load(recording.checkpoint, decoding="free", aspect=recording.aspect, max_new_tokens=16)
    pointing = RoboReferBackend.load(recording.checkpoint, aspect=recording.aspect, max_points=2)
    text, answer = free.generate(recording.prompt).text, pointing.generate(recording.prompt)
    assert answer.text == text if is_beginning(text, 2) and is_whole(text) else answer.text != text
    assert answer.text == Plain(pointing, recording.prompt).greedy(2)


@pytest.mark.parametrize("dimensions", [SINGLE, MERGED, WHOLE], ids=["single", "merged", "whole"])
@torch.inference_mode()
def test_p_visible_is_the_mass_of_all_spellings(random_backend, dimensions):
    backend = random_backend(dimensions)
    for text in ("Where?", "Which cup is it?"):
        prompt = Prompt(text)
        plain = Plain(backend, prompt)
        pointing, refusing = plain.mass("[(0."), plain.mass(NOT_VISIBLE)
        answer = backend.generate(prompt)
        assert answer.p_visible == pytest.approx(pointing / (pointing + refusing), abs=2e-3)
        assert not answer.p_visible_calibrated


@pytest.mark.parametrize("dimensions", [SINGLE, MERGED, WHOLE], ids=["single", "merged", "whole"])
@torch.inference_mode()
def test_covariance_is_that_of_the_digits(random_backend, dimensions):
    backend = random_backend(dimensions, max_points=1)
    answers = {text: backend.generate(Prompt(text)) for text in ("Which cup?", "The left one")}
    visible = {text: answer for text, answer in answers.items() if answer.visible}
    assert visible
    for text, answer in visible.items():
        plain = Plain(backend, Prompt(text))
        # The distribution follows the tokens of the greedy answer, up to the one that reaches into the number.
        tokens, grown = [], ""
        spreads = []
        starts = [match.end() for match in re.finditer(r"0\.", answer.text)]
        while len(spreads) < 2:
            allowed = plain.allowed(grown, 1)
            scores = plain.log_probabilities(tokens)
            best = max(allowed, key=lambda token: float(scores[token]))
            start = starts[len(spreads)]
            if len(allowed[best]) > start:
                spreads.append(plain.number(tokens, grown, answer.text[len(grown) : start]))
            tokens.append(best)
            grown = allowed[best]
            assert answer.text.startswith(grown)
        for axis, spread in enumerate(spreads):
            values, masses = np.array(list(spread)) / 1000, np.array(list(spread.values()))
            variance = masses @ (values - masses @ values) ** 2
            found = answer.point_covariance[0][axis, axis]
            # Branches of little mass are not followed to their last digit.
            assert math.sqrt(found) == pytest.approx(math.sqrt(variance), rel=0.05, abs=2e-3)
        assert answer.point_covariance[0][0, 1] == 0
        x, y = (round(value * 1000) for value in answer.points[0])
        # Rare ways to split the same digits into tokens are not followed.
        assert answer.scores[0] == pytest.approx(spreads[0][x] * spreads[1][y], rel=0.1)


@pytest.mark.parametrize("dimensions", [SINGLE, WHOLE], ids=["single", "whole"])
def test_a_trained_model(trained_checkpoint, dimensions):
    """Its free answers are in the grammar: the constrained ones equal them, and it is sure of them."""
    path, lessons = trained_checkpoint(**dimensions)
    free = RoboReferBackend.load(path, decoding="free", training_form=True)
    pointing = RoboReferBackend.load(path, training_form=True)
    for prompt, answer in lessons:
        assert free.generate(prompt).text == answer
        found = pointing.generate(prompt)
        assert found.text == answer
        assert found.visible == (found.p_visible > 0.9) == (answer != NOT_VISIBLE) == (not found.p_visible < 0.1)
        if found.visible:
            np.testing.assert_allclose(found.points, parse(answer).points)
            assert (found.scores > 0.5).all()
            spreads = np.sqrt(np.diagonal(found.point_covariance, axis1=1, axis2=2))
            assert (spreads < 0.1).all() and (spreads > 1e-4).all()


@pytest.mark.parametrize(("dimensions", "passes"), [(SINGLE, 4), (WHOLE, 2)], ids=["single", "whole"])
def test_passes_of_the_model(trained_checkpoint, dimensions, passes):
    """No answer takes one per token: one point takes three after the prompt's, one if a token is a whole number."""
    path, lessons = trained_checkpoint(**dimensions)
    backend = RoboReferBackend.load(path, max_points=1, training_form=True)
    for prompt, answer in lessons:
        with torch.inference_mode():
            plan = backend.prefiller.plan(prompt)
            tree = TokenTree(backend.model, backend.prefiller.compute([plan]))
            decoder = PointingDecoder(backend._grammar, max_points=1)
            decode(tree, [decoder.decode(backend.prefiller.tail_nodes(plan, 0))])
        assert tree.passes == (1 if answer == NOT_VISIBLE else passes)


@pytest.mark.parametrize("dimensions", [SINGLE, MERGED, WHOLE, CROSSING], ids=["single", "merged", "whole", "crossing"])
@torch.inference_mode()
def test_candidates(random_backend, prompts, dimensions):
    alone = random_backend(dimensions, max_points=1)
    several = random_backend(dimensions, max_points=1, candidates=4)
    compared = 0
    for prompt in prompts:
        one, more = alone.generate(prompt), several.generate(prompt)
        assert one.text == more.text and one.p_visible == pytest.approx(more.p_visible)
        if not more.visible:
            assert len(more.points) == 0
            continue
        compared += 1
        # Tokens across a number's beginning leave its alternatives unknown.
        assert (dimensions != CROSSING) < len(more.points) <= 4
        assert len(more.scores) == len(more.point_covariance) == len(more.points)
        np.testing.assert_array_equal(more.points[0], one.points[0])
        # Rare ways to split its digits into tokens are followed where further points are looked for.
        assert more.scores[0] == pytest.approx(one.scores[0], rel=0.1)
        assert list(more.scores[1:]) == sorted(more.scores[1:], reverse=True)
        for a, b in itertools.combinations(more.points, 2):
            assert np.abs(a - b).max() >= 0.05 - 1e-9
        # A candidate has its own part of the distribution, the only point of an answer all of it.
        assert (np.diagonal(more.point_covariance[0]) <= np.diagonal(one.point_covariance[0]) + 1e-12).all()
    assert compared


class TestGrammar:
    @given(st.text(alphabet="[](), .0123456789NOT_VISIBLE", max_size=40))
    def test_walk_accepts_beginnings_only(self, text):
        assert (walk(START, text) is not None) == is_beginning(text, 3)

    @given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1, max_size=4))
    def test_walk_ends_with_whole_answers(self, points):
        answer = "[" + ", ".join(f"(0.{x:03}, 0.{y:03})" for x, y in points) + "]"
        for cut in range(len(answer)):
            state = walk(START, answer[:cut])
            assert state not in (None, END)
            forced = forced_text(state, may_open=True)
            assert answer[cut:].startswith(forced)
        assert walk(START, answer) == END and walk(START, answer + "]") is None

    def test_every_token_is_judged_by_its_text(self, random_backend):
        for dimensions in (SINGLE, MERGED, WHOLE, CROSSING):
            backend = random_backend(dimensions)
            grammar, tokenizer = backend._grammar, backend.model.tokenizer
            for text in ("", "[", "[(0.1", "[(0.12", "[(0.123", "[(0.123, 0.45", "NOT", "[(0.123, 0.456)"):
                state = walk(START, text)
                found = {t.token for t in grammar.transitions(state)}
                special = set(tokenizer.all_special_ids)
                for token in range(len(tokenizer)):
                    piece = tokenizer.decode([token])
                    expected = token not in special and piece != "" and is_beginning(text + piece, 4)
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
def test_numbers_in_tokens_of_any_kind(words, seed, max_points):
    """Against greedy decoding and the exact distribution of the first number, with logits drawn for each text."""

    def logits_of(text: str) -> np.ndarray:
        key = [seed, *text.encode()]
        return np.random.default_rng(key).normal(0, 2, len(words)).astype(np.float32)

    def allowed(text: str) -> dict[int, str]:
        def ends(text: str) -> bool:
            grown = [text + word for word in words if is_beginning(text + word, max_points)]
            return is_whole(text) or any(ends(g) for g in grown)

        return {i: text + w for i, w in enumerate(words) if is_beginning(text + w, max_points) and ends(text + w)}

    def text_of(node: Node | None) -> str:
        return "" if node is None or node.token < 0 else text_of(node.parent) + words[node.token]

    text, before, steps = "", None, 0
    while not is_whole(text):
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
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.002, 0.3), st.floats(0.05, 1)), min_size=1, max_size=3)
)
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
