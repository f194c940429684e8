"""Replay: how fast a bag goes through the node step by step, against the bag's own duration.

Baseline in the same run: the same bag played in real time. 640x480 RGB-D at 30 Hz, JPEG and 16UC1, over DDS to the
node in its own process; each round starts a fresh node for each way of playing, in turn. Counted is from the first view
taken to the last answer: starting the node and choosing questions are not.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from offline.eval.replay.playing.live import LiveConfig, ask_live
from offline.eval.replay.playing.session import ReplaySession
from offline.eval.replay.playing.stepped import ask_stepped
from offline.eval.replay.truth.questions import Question, QuestionConfig, make_questions
from sim.bags.recorder import RecordOptions, bag_stamps, record
from sim.rooms.sim_source import SimSource, make_source


@dataclass(frozen=True)
class ReplayBenchConfig:
    """Speed of stepped replay."""

    frames: int = 300
    """Views in the bag, 30 a second."""
    questions: int = 48
    """Asked on the way, where some are."""
    rounds: int = 3
    """How often each way of playing is timed."""


def stepped(session: ReplaySession, questions: Sequence[Question], stamps_ns: np.ndarray) -> float:
    """Seconds from the first view to the last answer."""
    taken: list[float] = []
    ask_stepped(session, questions, stamps_ns.tolist(), lambda done, total: taken.append(time.perf_counter()))
    return time.perf_counter() - taken[0]


def in_real_time(session: ReplaySession, source: SimSource, questions: Sequence[Question]) -> float:
    """Seconds from the first view to the last."""
    _, _, stats = ask_live(session, source, questions, LiveConfig(askers=0))
    return stats.took


def measure(config: ReplayBenchConfig, source: SimSource, folder: Path) -> tuple[float, dict[str, list[float]]]:
    """Duration of the bag between the views that count, and of each way of playing it [s]."""
    stamps = bag_stamps(source)
    record(source, folder / "bag", RecordOptions())
    questions = make_questions(source, QuestionConfig(count=config.questions))
    one = [question for question in questions if question.query == questions[-1].query][:1]
    ways = {
        "in real time": lambda session: in_real_time(session, source, one),
        "stepped": lambda session: stepped(session, one, stamps),
        f"stepped, {len(questions)} questions": lambda session: stepped(session, questions, stamps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(config.rounds):
        for name, play in ways.items():
            with ReplaySession(folder / "bag", folder / "node.log") as session:
                seconds[name].append(play(session))
    return float(stamps[questions[-1].query] - stamps[0]) / 1e9, seconds


def main() -> int:
    config = tyro.cli(ReplayBenchConfig, description=__doc__)
    source = make_source(7, config.frames, objects=22)
    with tempfile.TemporaryDirectory() as folder:
        duration, seconds = measure(config, source, Path(folder))
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}"
    print(f"bag of {duration:.1f} s, {config.frames} views, {config.rounds} rounds; {machine}")
    print(f"{'':26}{'median':>10}{'fastest':>10}{'of real time':>16}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:26}{median:>8.2f} s{min(times):>8.2f} s{duration / median:>14.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
