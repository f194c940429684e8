"""How well a model in training answers, measured in one forward pass per coordinate."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from roboref_core.answer_text import NOT_VISIBLE

from offline.nano.batches import BatchMaker
from offline.nano.losses import Network, fast_arithmetic
from offline.nano.pool import SIDE, Chunk
from offline.nano.questions import Mix, Question, Sampler
from offline.nano.vocabulary import OPEN

_VIEWS, _BATCH = 120, 12


def measure(network: Network, maker: BatchMaker, chunk: Chunk, views: int = _VIEWS) -> dict[str, dict[str, float]]:
    """Per task: share of visible targets hit, balanced accuracy of NOT_VISIBLE, and of its best threshold."""
    sampler, rng = Sampler([chunk], Mix()), np.random.default_rng(1)
    own = BatchMaker([chunk], maker.model, {}, {}, patch_labels=False)
    questions: list[Question] = []
    odds: list[np.ndarray] = []
    points: list[np.ndarray] = []
    training = network.model.training
    network.model.eval()
    for _ in range(views // _BATCH):
        asked = [q for q in sampler.draw(_BATCH, rng) if len(q.points) < 2]
        batch = own.make(asked, blank=True)
        with fast_arithmetic():
            found = network.answer(batch, (maker.pieces[OPEN], maker.pieces[NOT_VISIBLE]))
        questions += asked
        odds.append(found[0].numpy())
        points.append(found[1].numpy())
    network.model.train(training)
    return summarise(questions, np.concatenate(odds), np.concatenate(points))


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
    return float((said[visible].mean() + (~said[~visible]).mean()) / 2)


def _hit(question: Question, point: np.ndarray) -> bool:
    x, y = point
    if question.pictures[-1].right is not None:
        x = 2 * x - 1
    u, v = int(x * SIDE), int(y * SIDE)
    return 0 <= u < SIDE and 0 <= v < SIDE and bool(question.target[v, u])
