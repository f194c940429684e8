"""Loss, gradients and advantages against the published formula, written out once more in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offline.train.rft.grpo import advantages, token_loss

Q, G, VOCABULARY = 2, 3, 5


def published_loss(theta, old, reference, tokens, rewards, low, high, beta):
    """J_GRPO of DeepSeekMath, negated: mean over questions, over answers and over their tokens, in plain numbers.

    Args:
        theta, old, reference: (Q, G, T, V) logits of each token's distribution.
        tokens: (Q, G) lists of ids.
        rewards: (Q, G).
    """

    def log_pi(logits, token):
        return logits[token] - np.log(np.exp(logits).sum())

    total = 0.0
    for q in range(Q):
        mean, std = np.mean(rewards[q]), np.std(rewards[q], ddof=1)
        for g in range(G):
            advantage = (rewards[q][g] - mean) / (std + 1e-4)
            answer = 0.0
            for t, token in enumerate(tokens[q][g]):
                ratio = np.exp(log_pi(theta[q, g, t], token) - log_pi(old[q, g, t], token))
                surrogate = min(ratio * advantage, np.clip(ratio, 1 - low, 1 + high) * advantage)
                share = np.exp(log_pi(reference[q, g, t], token) - log_pi(theta[q, g, t], token))
                answer += surrogate - beta * (share - np.log(share) - 1)
            total += answer / len(tokens[q][g])
    return -total / (Q * G)


def our_loss(theta, old, reference, tokens, rewards, clip, beta):
    flat = [(q, g, t, tokens[q][g][t]) for q in range(Q) for g in range(G) for t in range(len(tokens[q][g]))]
    index = tuple(torch.tensor(column) for column in zip(*flat, strict=True))

    def logs(logits):
        return torch.log_softmax(logits, -1)[index]

    lengths = torch.tensor([len(tokens[q][g]) for q in range(Q) for g in range(G)])
    spread = advantages(rewards).flatten().repeat_interleave(lengths)
    found = token_loss(logs(theta), logs(old), None if reference is None else logs(reference), spread, clip, beta)
    return (found.loss / lengths.repeat_interleave(lengths)).sum() / (Q * G)


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    theta, old, reference = rng.normal(size=(3, Q, G, 4, VOCABULARY)) * 0.7
    tokens = [[rng.integers(0, VOCABULARY, rng.integers(1, 5)).tolist() for _ in range(G)] for _ in range(Q)]
    return theta, old, reference, tokens, rng.random((Q, G))


@pytest.mark.parametrize(("low", "high", "beta"), [(0.2, 0.2, 0.04), (0.1, 0.5, 0.0), (0.3, 0.3, 1.0)])
def test_loss_and_gradients_are_those_of_the_published_formula(case, low, high, beta):
    theta, old, reference, tokens, rewards = case
    logits = torch.tensor(theta, requires_grad=True)
    loss = our_loss(
        logits, torch.tensor(old), torch.tensor(reference), tokens, torch.tensor(rewards), (low, high), beta
    )
    loss.backward()
    assert loss.item() == pytest.approx(published_loss(*case, low, high, beta), rel=1e-9)
    step = 1e-6
    for place in np.ndindex(*theta.shape):
        ends = []
        for sign in (1, -1):
            moved = theta.copy()
            moved[place] += sign * step
            ends.append(published_loss(moved, old, reference, tokens, rewards, low, high, beta))
        assert logits.grad[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7), place


def test_both_sides_of_the_clip_are_met(case):
    """Else the comparison above would say nothing about it."""
    theta, old, _, _, _ = map(np.asarray, case[:3] + (0, 0))
    ratio = np.exp(theta - old)
    assert (ratio > 1.2).any() and (ratio < 0.8).any()


def test_without_a_reference(case):
    theta, old, reference, tokens, rewards = case
    arguments = torch.tensor(theta), torch.tensor(old)
    alone = our_loss(*arguments, None, tokens, torch.tensor(rewards), (0.2, 0.2), 0.5)
    assert alone.item() == pytest.approx(published_loss(theta, old, reference, tokens, rewards, 0.2, 0.2, 0.0))


def test_on_policy_gradients_are_policy_gradients(case):
    """With the drawing network itself as the old one, the gradient is that of -A log pi."""
    theta, _, _, tokens, rewards = case
    first, second = (torch.tensor(theta, requires_grad=True) for _ in range(2))
    our_loss(first, first.detach(), None, tokens, torch.tensor(rewards), (0.2, 0.2), 0.0).backward()
    spread = advantages(torch.tensor(rewards))
    loss = -sum(
        spread[q, g] * torch.log_softmax(second[q, g, t], -1)[token] / len(tokens[q][g])
        for q in range(Q)
        for g in range(G)
        for t, token in enumerate(tokens[q][g])
    )
    (loss / (Q * G)).backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_equal_rewards_teach_nothing():
    assert (advantages(torch.full((2, 4), 0.3)) == 0).all()
    assert torch.allclose(advantages(torch.tensor([[0.0, 1.0]]), scale=False), torch.tensor([[-0.5, 0.5]]))
