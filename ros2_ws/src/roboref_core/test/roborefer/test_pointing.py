"""The pointing decoder against plain decoding of the same model, one full forward pass per token."""

from __future__ import annotations

import itertools
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from roboref_core.models.model_answer import Outcome
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.decoding.pointing import PointingDecoder
from roboref_core.models.roborefer.decoding.tree import TokenTree, decode
from roboref_core.models.roborefer.network.tiling import cut_tiles, to_picture
from roboref_core.models.vision_language_model import Prompt
from roboref_core.prompting.answer_text import NOT_VISIBLE, parse

SINGLE, MERGED, CROSSING = {"numbers": "single"}, {"numbers": "merged"}, {"numbers": "crossing"}
WHOLE = {"numbers": "whole", "vocabulary": 1600}


class Plain:
    """The same model without tree, cache, drafts or grammar automaton."""

    def __init__(self, written, backend: RoboReferBackend, prompt: Prompt):
        self.written = written
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
        self.texts = {token: tokenizer.decode([token]) for token in range(len(tokenizer)) if token not in special}

    def log_probabilities(self, tokens: list[int]) -> torch.Tensor:
        embeddings = torch.cat([self.prompt, self.model.embed_ids(torch.tensor(tokens, dtype=torch.long))])
        return torch.log_softmax(self.model.llm(inputs_embeds=embeddings[None]).logits[0, -1].double(), 0)

    def allowed(self, text: str, max_points: int) -> dict[int, str]:
        grown = {token: text + t for token, t in self.texts.items() if t}
        return {token: g for token, g in grown.items() if self.written.is_beginning(g, max_points)}

    def greedy(self, max_points: int) -> str:
        tokens, text = [], ""
        while not self.written.is_whole(text):
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


@pytest.fixture(scope="session")
def plain(written):
    return partial(Plain, written)


@pytest.fixture
def prompts(pictures):
    texts = ("Where is the cup?", "Point to the red thing.", "The left one", "Where was it before?")
    return [Prompt(text, (pictures(2 * i), pictures(2 * i + 1, 60, 100))) for i, text in enumerate(texts)]


@pytest.mark.parametrize("dimensions", [SINGLE, MERGED, WHOLE, CROSSING], ids=["single", "merged", "whole", "crossing"])
@pytest.mark.parametrize("max_points", [1, 3])
@torch.inference_mode()
def test_equals_greedy_decoding_token_by_token(random_backend, plain, prompts, dimensions, max_points):
    backend = random_backend(dimensions, max_points=max_points)
    prompts += [Prompt("Which cup?"), Prompt("Where is it?")]
    answers = [backend.generate(prompt) for prompt in prompts]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.text == plain(backend, prompt).greedy(max_points)
        assert (answer.outcome is Outcome.VISIBLE) == (answer.text != NOT_VISIBLE)
        if answer.outcome is Outcome.VISIBLE:
            np.testing.assert_allclose(answer.points, parse(answer.text).points)
    assert len({answer.text for answer in answers}) > 1


@torch.inference_mode()
def test_on_every_recording(recording, plain, written):
    """Random weights leave the grammar at once: then the answer is the best one within it."""
    free = RoboReferBackend.load(recording.checkpoint, decoding="free", aspect=recording.aspect, max_new_tokens=16)
    pointing = RoboReferBackend.load(recording.checkpoint, aspect=recording.aspect, max_points=2)
    text, answer = free.generate(recording.prompt).text, pointing.generate(recording.prompt)
    assert answer.text == text if written.is_beginning(text, 2) and written.is_whole(text) else answer.text != text
    assert answer.text == plain(pointing, recording.prompt).greedy(2)


@pytest.mark.parametrize("dimensions", [SINGLE, MERGED, WHOLE], ids=["single", "merged", "whole"])
@torch.inference_mode()
def test_p_visible_is_the_mass_of_all_spellings(random_backend, plain, dimensions):
    backend = random_backend(dimensions)
    for text in ("Where?", "Which cup is it?"):
        prompt = Prompt(text)
        model = plain(backend, prompt)
        pointing, refusing = model.mass("[(0."), model.mass(NOT_VISIBLE)
        answer = backend.generate(prompt)
        assert answer.p_visible == pytest.approx(pointing / (pointing + refusing), abs=2e-3)
        assert not answer.p_visible_calibrated


@pytest.mark.parametrize("dimensions", [SINGLE, MERGED, WHOLE], ids=["single", "merged", "whole"])
@torch.inference_mode()
def test_covariance_is_that_of_the_digits(random_backend, plain, dimensions):
    backend = random_backend(dimensions, max_points=1)
    answers = {text: backend.generate(Prompt(text)) for text in ("Which cup?", "The left one")}
    visible = {text: answer for text, answer in answers.items() if answer.outcome is Outcome.VISIBLE}
    assert visible
    for text, answer in visible.items():
        model = plain(backend, Prompt(text))
        # The distribution follows the tokens of the greedy answer, up to the one that reaches into the number.
        tokens, grown = [], ""
        spreads = []
        starts = [match.end() for match in re.finditer(r"0\.", answer.text)]
        while len(spreads) < 2:
            allowed = model.allowed(grown, 1)
            scores = model.log_probabilities(tokens)
            best = max(allowed, key=lambda token: float(scores[token]))
            start = starts[len(spreads)]
            if len(allowed[best]) > start:
                spreads.append(model.number(tokens, grown, answer.text[len(grown) : start]))
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
        assert (
            (found.outcome is Outcome.VISIBLE)
            == (found.p_visible > 0.9)
            == (answer != NOT_VISIBLE)
            == (not found.p_visible < 0.1)
        )
        if found.outcome is Outcome.VISIBLE:
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
        if more.outcome is not Outcome.VISIBLE:
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
