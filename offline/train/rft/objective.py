"""Reinforcement fine-tuning as an objective of the loop: draw answers, reward them, learn from the difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from roboref_core.seeds import rng_of
from torch import nn

from offline.train.dataset import TrainBatch, TrainData
from offline.train.engine import Engine
from offline.train.families.base import Policy
from offline.train.objective import Objective, Update
from offline.train.plan import Plan, Schedule
from offline.train.ranks import Ranks
from offline.train.rft.grpo import advantages, token_loss
from offline.train.rft.rewards import TERMS, read_task, reward_terms, total

Answers = list[list[tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Rollouts:
    """A micro-batch of questions with answers drawn by the network.

    Attributes:
        batch: of training, with the questions.
        answers: token ids by question and answer.
        advantages: (Q, G).
        sampled: (N,) log-probabilities of all answer tokens when they were drawn; None: as they are.
        reference: (N,) those of the model that the run began with; None: the loss does not look at it.
    """

    batch: Any
    answers: Answers
    advantages: torch.Tensor
    sampled: torch.Tensor | None
    reference: torch.Tensor | None


class PolicyObjective(Objective):
    """GRPO: each question's answers against each other.

    Args:
        engine: whose network draws and learns.
        reference: the model that the run began with, frozen; None where the loss does not look at it.
        data: by stage index.
    """

    def __init__(
        self,
        schedule: Schedule,
        engine: Engine,
        reference: Policy | None,
        data: Mapping[int, TrainData],
        ranks: Ranks,
    ):
        plan = schedule.plan
        assert plan.rft is not None
        self._schedule, self._plan, self._settings = schedule, plan, plan.rft
        self._engine, self._reference, self._data, self._ranks = engine, reference, data, ranks
        network = engine.network
        self._policy = network.family.policy(network.model, self._settings)
        self._sums: dict[str, float] = {}
        self._tokens = self._answers = 0.0

    def updates(self, batches: Sequence[TrainBatch], step: int) -> Iterator[Update]:
        with self._engine.whole():
            rollouts = [self._rollouts(batch, step) for batch in batches]
        each = [[len(answer) for own in one.answers for answer in own] for one in rollouts]
        by_token = self._settings.average == "token"
        count = sum(sum(lengths) if by_token else len(lengths) for lengths in each)
        items = self._ranks.sum(torch.tensor(count, device=self._ranks.device))
        for _ in range(self._settings.updates):
            yield Update(rollouts, items, self._loss)

    def _rollouts(self, batch: TrainBatch, step: int) -> Rollouts:
        settings, data = self._settings, self._data[self._schedule.stage_at(step)]
        tasks = []
        for name, index in batch.keys:
            where, sample = data.sample((name, index))
            assert isinstance(sample, dict)
            tasks.append(read_task(sample, data.root(name), where))
        rngs = [
            [rng_of(self._plan.seed, "rollout", step, name, index, row, g) for g in range(settings.group)]
            for row, (name, index) in enumerate(batch.keys)
        ]
        network = self._engine.network
        network.eval()
        answers = self._policy.draw(batch.batch, rngs)
        network.train()
        terms = reward_terms(
            tasks, [[self._policy.text(answer) for answer in own] for own in answers], settings.rewards
        )
        rewards = torch.tensor(total(terms, settings.rewards), dtype=torch.float32)
        with torch.no_grad():
            sampled = self._policy.log_probabilities(batch.batch, answers)[0] if settings.updates > 1 else None
            reference = None
            if self._reference is not None:
                reference = self._reference.log_probabilities(batch.batch, answers)[0]
        self._note_rewards(rewards, terms, answers)
        return Rollouts(batch.batch, answers, advantages(rewards, settings.scale), sampled, reference)

    def _loss(self, family: Any, model: nn.Module, rollouts: Rollouts, num_items: torch.Tensor) -> torch.Tensor:
        """Sum of the answers' losses over ``num_items``, which counts answers or tokens of the whole update."""
        settings = self._settings
        current, entropies = self._policy.log_probabilities(rollouts.batch, rollouts.answers)
        lengths = torch.tensor([len(answer) for own in rollouts.answers for answer in own])
        spread = rollouts.advantages.flatten().repeat_interleave(lengths).to(current.device)
        sampled = current.detach() if rollouts.sampled is None else rollouts.sampled
        clip = (settings.clip, settings.clip_high or settings.clip)
        found = token_loss(current, sampled, rollouts.reference, spread, clip, settings.kl)
        weights = torch.ones_like(lengths) if settings.average == "token" else lengths
        self._tokens += len(current)
        self._add(kl=found.kl.sum(), clip_share=found.clipped.sum(), entropy=entropies.sum())
        return (found.loss / weights.repeat_interleave(lengths).to(current.device)).sum() / num_items

    def _note_rewards(self, rewards: torch.Tensor, terms: np.ndarray, answers: Answers) -> None:
        count = rewards.numel()
        self._answers += count
        self._add(
            reward=rewards.sum(),
            answer_length=sum(len(answer) for own in answers for answer in own),
            # Groups whose answers are all alike teach nothing.
            equal_groups=(rewards.std(dim=1) == 0).sum() * rewards.shape[1],
            **{f"reward_{name}": terms[..., index].sum() for index, name in enumerate(TERMS)},
        )

    def _add(self, **sums: Any) -> None:
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)

    def figures(self) -> dict[str, float]:
        names = sorted(self._sums)
        values = [*(self._sums[name] for name in names), self._tokens, self._answers]
        *sums, tokens, answers = self._ranks.sum(
            torch.tensor(values, dtype=torch.float64, device=self._ranks.device)
        ).tolist()
        per_token = ("kl", "clip_share", "entropy")
        found = {
            name: value / (tokens if name in per_token else answers) for name, value in zip(names, sums, strict=True)
        }
        self._sums, self._tokens, self._answers = {}, 0.0, 0.0
        return found


def reference_policy(plan: Plan, family: Any, device: torch.device) -> Policy | None:
    """The model that the run began with, frozen; None where the loss does not look at it."""
    if plan.rft is None or not plan.rft.kl:
        return None
    dtype = torch.bfloat16 if plan.zero and plan.precision == "bf16" else torch.float32
    model = family.load(plan.model, dtype, plan.model_max_length).to(device).eval()
    policy: Policy = family.policy(model.requires_grad_(False), plan.rft)
    return policy
