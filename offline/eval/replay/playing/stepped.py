"""Stepped replay: the next view is played when the node has taken the last one, and waits while questions are
answered. What the node has seen when it is asked depends on the bag alone, whatever the machine's load."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from offline.eval.records.replays import Question
from offline.eval.replay.playing.session import Asked, Pairs, ReplaySession
from sim.bags.recorder import on_time


def ask_stepped(
    session: ReplaySession,
    questions: Sequence[Question],
    stamps_ns: Iterable[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Asked], Pairs]:
    """Play the bag as far as the questions need, capturing reference views and asking in their order.

    A question is asked just before a newer view than its own arrives: late views have come by then, and the
    node must not take them for the newest.

    Args:
        stamps_ns: stamp in the bag of each position of the scene.

    Raises ValueError if the bag lacks a view, NotCaptured if the node captured another view than the one played.
    """
    arrivals = session.arrivals(stamps_ns)
    order = [arrival.position for arrival in arrivals]
    references = {question.reference for question in questions if question.reference is not None}
    queries: defaultdict[int, list[Question]] = defaultdict(list)
    for question in questions:
        queries[question.query].append(question)
    missing = sorted((references - set(order)) | (queries.keys() - set(on_time(order))))
    if missing:
        raise ValueError(f"{session.bag.path}: questions need positions {missing}, which are not there in time")
    total = 1 + max((order.index(position) for position in queries), default=-1)
    player = session.player()
    view_ids: dict[int | None, str] = {}
    asked: list[Asked] = []
    newest, played = -1, 0
    for arrival in arrivals:
        if arrival.position > newest:
            asked += [session.refer(question, view_ids.get(question.reference)) for question in queries.pop(newest, ())]
            newest = arrival.position
        if not queries:
            break
        capture = session.begin_capture() if arrival.position in references else None
        step = player.step()
        session.check()
        if step is None:
            raise ValueError(f"{session.bag.path} ends before position {arrival.position}")
        played += 1
        if capture is not None:
            view_ids[arrival.position] = session.end_capture(capture, step.stamp_ns)
        progress(min(played, total), total)
    asked += [session.refer(question, view_ids.get(question.reference)) for question in queries.pop(newest, ())]
    return asked, session.pairs(arrivals[:played])
