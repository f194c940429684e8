"""How well a model in training answers, measured in one forward pass per coordinate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from roboref_core.models.roborefer.network.model import RoboReferModel

from offline.eval.records.answers import Answer
from offline.eval.records.outcomes import Decisions
from offline.eval.scoring.metrics import balanced_accuracy
from offline.train.nano.batches import BatchMaker, NanoBatch
from offline.train.nano.losses import Network, fast_arithmetic
from offline.train.nano.pool import SIDE, Chunk
from offline.train.nano.questions import Mix, Question, Sampler

_VIEWS, _BATCH = 120, 12


@dataclass(frozen=True, eq=False)
class TuningSet:
    """Questions of one answer each about rooms that are not trained on, in batches made blank."""

    questions: Sequence[Sequence[Question]]
    batches: Sequence[NanoBatch]

    @classmethod
    def draw(cls, chunk: Chunk, model: RoboReferModel, mix: Mix, views: int = _VIEWS) -> TuningSet:
        sampler, rng = Sampler([chunk], mix), np.random.default_rng(1)
        maker = BatchMaker([chunk], model, {}, {}, patch_labels=False)
        asked = [[q for q in sampler.draw(_BATCH, rng) if len(q.points) < 2] for _ in range(views // _BATCH)]
        return cls(asked, [maker.make(questions, blank=True) for questions in asked])


def measure(network: Network, asked: TuningSet, answers: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Per task: share of visible targets hit, balanced accuracy of NOT_VISIBLE, and of its best threshold.

    Args:
        answers: token of a point's beginning and of NOT_VISIBLE.
    """
    device = network.model.device
    training = network.model.training
    network.model.eval()
    with fast_arithmetic(device):
        found = [network.answer(batch.to(device), answers) for batch in asked.batches]
    network.model.train(training)
    odds, points = (np.concatenate([each[k].numpy() for each in found]) for k in (0, 1))
    return summarise([q for questions in asked.questions for q in questions], odds, points)


def summarise(questions: Sequence[Question], odds: np.ndarray, points: np.ndarray) -> dict[str, dict[str, float]]:
    """Figures per task. Hits count wherever the target is visible, refused or not."""
    by_task: dict[str, list[int]] = defaultdict(list)
    for k, question in enumerate(questions):
        by_task[question.task].append(k)
    return {
        task: _figures([questions[k] for k in own], odds[own], points[own]) for task, own in sorted(by_task.items())
    }


def _figures(questions: Sequence[Question], odds: np.ndarray, points: np.ndarray) -> dict[str, float]:
    visible = np.array([bool(q.points) for q in questions])
    hits = [_hit(q, point) for q, point in zip(questions, points, strict=True) if q.target is not None]
    figures = {"count": len(questions), "hit": round(float(np.mean(hits)), 3) if hits else 0.0}
    if visible.any() and not visible.all():
        thresholds = np.sort(odds)
        figures["balanced"] = round(_balanced(visible, odds > 0), 3)
        best = max(thresholds, key=lambda t: _balanced(visible, odds > t))
        figures["best_balanced"] = round(_balanced(visible, odds > best), 3)
        figures["threshold"] = round(float(best), 2)
    return figures


def _balanced(visible: np.ndarray, said: np.ndarray) -> float:
    answer = np.where(said, Answer.POINT, Answer.NOT_VISIBLE)
    nowhere = np.zeros(len(visible), dtype=bool)
    balanced = balanced_accuracy(Decisions(visible, answer, nowhere, nowhere))
    return np.nan if balanced is None else balanced


def _hit(question: Question, point: np.ndarray) -> bool:
    assert question.target is not None
    x, y = point
    if question.pictures[-1].right is not None:
        x = 2 * x - 1
    u, v = int(x * SIDE), int(y * SIDE)
    return 0 <= u < SIDE and 0 <= v < SIDE and bool(question.target[v, u])
