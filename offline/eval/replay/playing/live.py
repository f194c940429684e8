"""Live replay: the bag in real time and questions under load, as a robot has it.

The questions of a stepped replay, each asked when its view arrives; meanwhile several askers keep the node busy. The
bag waits for nobody: a question may be answered about a later view than the one that it was meant for, and is judged
in the view that its answer names.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from roboref_core.referring.answer import Status

from offline.eval.records.replays import Question
from offline.eval.replay.playing.session import Arrival, Asked, NotCaptured, Pairs, ReplaySession
from offline.eval.replay.scoring.live_score import LiveStats
from offline.eval.replay.truth.other_view import at_view
from offline.eval.replay.truth.truth import GroundTruthScene
from sim.bags.player import BagPlayer
from sim.bags.recorder import bag_stamps

# The last views may still be on their way when the bag ends.
_GRACE_SECONDS = 2.0
_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class LiveConfig:
    """How a bag is played live.

    Attributes:
        speed: relative to the recording.
        askers: how many ask all the time, each its next question when the last one is answered.
        pause: pause of an asker between an answer and its next question [s].
    """

    speed: float = 1.0
    askers: int = 3
    pause: float = 0.1

    def __post_init__(self):
        if not (self.speed > 0 and self.askers >= 0 and self.pause >= 0):
            raise ValueError(
                f"speed must be positive, askers and pause not negative, found {self.speed}, {self.askers} and "
                f"{self.pause}"
            )


def ask_live(
    session: ReplaySession,
    scene: GroundTruthScene,
    questions: Sequence[Question],
    config: LiveConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Asked], Pairs, LiveStats]:
    """Play the bag as far as the questions need, asking as its views arrive and, with the askers, all the time.

    Returns the answered questions, each with the view and the truth that its answer is about. Those whose marked view
    the node did not capture are not asked.
    """
    queries: defaultdict[int, list[Question]] = defaultdict(list)
    for question in questions:
        queries[question.query].append(question)
    arrivals = session.arrivals(bag_stamps(scene))
    last = max((n for n, arrival in enumerate(arrivals) if arrival.position in queries), default=-1)
    arrivals = arrivals[: last + 1]
    player = session.player(config.speed)
    # Waiting for subscribers does not count as the bag's time.
    player.wait_for_subscribers()
    with _Crowd(session, questions, config) as crowd:
        began = time.monotonic()
        for n, arrival in enumerate(_play(player, arrivals, crowd)):
            session.check()
            for question in queries[arrival.position]:
                crowd.ask(question)
            progress(n + 1, len(arrivals))
        took = time.monotonic() - began
    pairs = _pairs(session, arrivals)
    index = {arrival.position: n for n, arrival in enumerate(arrivals)}
    positions = {arrival.stamp_ns: arrival.position for arrival in arrivals}
    asked, behind = [], []
    for one in crowd.answered:
        stamp = one.answer.view_stamp_ns
        position = None if stamp is None else positions.get(stamp)
        if position is None:
            asked.append(one)
            continue
        behind.append(index[position] - index[one.question.query])
        asked.append(Asked(at_view(scene, one.question, position), one.answer, one.latency))
    stats = LiveStats(
        speed=config.speed,
        played=(arrivals[-1].time_ns - arrivals[0].time_ns) / 1e9 if arrivals else 0.0,
        took=took,
        latencies=[one.latency for one in (*crowd.answered, *crowd.load)],
        load_errors=[one.answer.error for one in crowd.load if one.answer.status == Status.ERROR],
        behind=behind,
        not_asked=crowd.not_asked,
    )
    return asked, pairs, stats


def _play(player: BagPlayer, arrivals: Sequence[Arrival], crowd: _Crowd) -> Iterator[Arrival]:
    """The views, each as soon as it has been played; a thread of its own plays them in real time.

    Before a view that is to be marked the bag is held until the node has heard that it is to capture it.
    """

    def play() -> None:
        for n, arrival in enumerate(arrivals):
            if crowd.marks(arrival) and not player.stopped:
                before = arrivals[n - 1] if n else None
                if before is not None:
                    player.play_until(before.time_ns)
                crowd.capture(arrival, before)
        player.play_until(arrivals[-1].time_ns)

    if not arrivals:
        return
    with ThreadPoolExecutor(1) as thread:
        playing = thread.submit(play)
        try:
            for arrival in arrivals:
                while not playing.done() and player.position_ns <= arrival.time_ns:
                    time.sleep(_POLL_SECONDS)
                yield arrival
            playing.result()
        finally:
            player.stop()


class _Crowd:
    """Everybody who asks while the bag plays; use as a context manager, which ends with the last answer.

    Attributes, once it has ended:
        answered: the questions given to ``ask``, in their order; not_asked: ids of the others, and why.
        load: what the askers asked.
    """

    def __init__(self, session: ReplaySession, questions: Sequence[Question], config: LiveConfig):
        self._session = session
        self._questions = questions
        self._config = config
        self._references = {question.reference for question in questions if question.reference is not None}
        self._captures: dict[int, Future[str]] = {}
        self._due: list[tuple[Question, Future[Asked]]] = []
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(config.askers + len(questions) + len(self._references))
        self.answered: list[Asked] = []
        self.not_asked: dict[str, str] = {}
        self.load: list[Asked] = []

    def __enter__(self) -> _Crowd:
        self._askers = [self._pool.submit(self._ask_all_the_time, first) for first in range(self._config.askers)]
        return self

    def __exit__(self, kind, *_) -> None:
        self._stop.set()
        self._pool.shutdown()
        if kind is None:
            for question, future in self._due:
                try:
                    self.answered.append(future.result())
                except NotCaptured as error:
                    self.not_asked[question.question_id] = str(error)
            self.load = [one for asker in self._askers for one in asker.result()]

    def marks(self, view: Arrival) -> bool:
        """Whether a question marks something in this view."""
        return view.position in self._references

    def capture(self, view: Arrival, before: Arrival | None) -> None:
        """Ask the node to capture the view that comes next, ``before`` being the last one."""
        if before is not None and before.has_pose:
            # A capture takes what comes next, and the last view may still be on its way.
            self._session.wait_for_taken(before.stamp_ns)
        begun = self._session.begin_capture()
        self._captures[view.position] = self._pool.submit(self._session.end_capture, begun, view.stamp_ns)

    def ask(self, question: Question) -> None:
        """Ask now, without waiting for the answer."""
        self._due.append((question, self._pool.submit(self._ask, question)))

    def _ask(self, question: Question) -> Asked:
        return self._session.refer(question, self._marked(question))

    def _ask_all_the_time(self, first: int) -> list[Asked]:
        answers, n = [], first
        while not self._stop.wait(max(self._config.pause, 0.001)):
            marked = [position for position, capture in self._captures.copy().items() if _succeeded(capture)] + [None]
            possible = [question for question in self._questions if question.reference in marked]
            if possible:
                question = possible[n % len(possible)]
                answers.append(self._session.refer(question, self._marked(question)))
                n += self._config.askers
        return answers

    def _marked(self, question: Question) -> str | None:
        """Id of the view that a question's mark lies in, None without a mark."""
        return None if question.reference is None else self._captures[question.reference].result()


def _succeeded(future: Future) -> bool:
    return future.done() and future.exception() is None


def _pairs(session: ReplaySession, arrivals: Sequence[Arrival]) -> Pairs:
    deadline = time.monotonic() + _GRACE_SECONDS
    while session.pairs(arrivals).dropped and time.monotonic() < deadline:
        time.sleep(0.05)
    return session.pairs(arrivals)
