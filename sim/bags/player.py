"""Play a rosbag2 into a running ROS 2 system, with /clock: in real time, or one view after the other."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rclpy.node import Node

from sim.bags.player_bag import Bag, BagMessage
from sim.bags.player_options import PlayOptions
from sim.bags.publishing import BagPublisher
from sim.bags.views import INFO_TYPE, ImageTopics, PlannedView, ViewPlan, info_topic

_CLOCK_PERIOD_S = 0.01
# Further behind than this, playing goes on from there instead of sending what is late all at once.
_MAX_LAG_S = 0.2


class ViewNotTaken(RuntimeError):
    """The node did not take a view in time."""


class Step(NamedTuple):
    """One view that was published. stamp_ns: its colour image's stamp; has_pose: the bag has a pose for it."""

    stamp_ns: int
    has_pose: bool


class BagPlayer:
    """Publishes a bag's messages, byte by byte as recorded.

    One thread plays (``play_until``, ``play``, ``step``, ``step_until``); ``pause``, ``resume``, ``seek`` and ``stop``
    may come from any. Before the first message the player waits for subscribers, and messages of latched topics
    (/tf_static) recorded before the place where it starts are sent first.

    A step is the messages up to the last one that the next view needs: a colour image, the depth image beside it and
    its pose, which may have been recorded after it (see ``ViewPlan``). With ``wait_for_taken`` a step ends when the
    node has taken the view, so that what it has seen does not depend on timing. A view without pose cannot be taken
    and is not waited for.

    Args:
        node: the node to publish from; it need not spin for this class.
        bag: an open bag.
        options: see PlayOptions.
        wait_for_taken: stamp of a view [ns] -> whether the node has taken it, after waiting for a while at most;
            for example a ViewWaiter.

    Raises:
        AnotherClock: another node publishes /clock.
        ValueError: options name a topic that the bag does not have.
    """

    def __init__(
        self,
        node: Node,
        bag: Bag,
        options: PlayOptions | None = None,
        *,
        wait_for_taken: Callable[[int], bool] | None = None,
    ):
        self.options = options or PlayOptions()
        self.bag = bag
        self._log = node.get_logger()
        self._publisher = BagPublisher(node, bag, self.options)
        missing = set(self.options.view_topics) - set(self._publisher.topics)
        if missing:
            raise ValueError(f"{bag.path}: view topics {', '.join(sorted(missing))} are not played")
        self._images = ImageTopics.of(bag, self._publisher.topics)
        self._wait_for_taken = wait_for_taken
        self._condition = threading.Condition()
        self._paused = self._stopped = self._started = False
        self._seek_to: int | None = bag.start_ns
        self._now_ns = bag.start_ns
        self._messages: Iterator[BagMessage] = iter(())
        self._next: BagMessage | None = None
        # Place of the next message: so many were sent since the one where playing began.
        self._from_ns, self._sent = bag.start_ns, 0
        self._plan: ViewPlan | None = None
        self._view: int | None = None
        self._recent: deque[tuple[int, BagMessage]] = deque()

    def wait_for_subscribers(self) -> None:
        """Return when somebody listens to each topic of ``wait_for``.

        Returns early after stop().

        Raises NoSubscriber naming the topics still unheard after ``discovery_seconds``, and AnotherClock if another
        player came meanwhile.
        """
        if self.options.wait_for is not None:
            wanted: list[tuple[str, ...]] = [(n,) for n in self.options.wait_for if n in self._publisher.topics]
        else:
            wanted = [names for names in self._images if names]
            infos = {info_topic(names[0]) for names in wanted if len(names) == 1}
            wanted += [(n,) for n in self._publisher.topics if n in infos and self.bag.topics[n].type == INFO_TYPE]
            wanted.sort(key=lambda names: self._publisher.topics.index(names[0]))
        self._publisher.wait_for_subscribers(wanted, lambda: self._stopped)

    def play(self, *, loop: bool = False) -> None:
        """Play in real time to the end, or again and again with ``loop``, until stop()."""
        while self.play_until(self.bag.end_ns) and loop:
            self.seek(self.bag.start_ns)

    def play_until(self, time_ns: int) -> bool:
        """Play in real time from where the player stands, up to and with bag time ``time_ns``.

        Returns False if stop() ended it.
        """
        self._start()
        self._view = None
        anchor: tuple[float, int] | None = None
        while True:
            message = self._peek()
            if self._stopped:
                return False
            if message is None or message.time_ns > time_ns:
                self._tick(min(time_ns, self.bag.end_ns))
                return True
            if message.time_ns < self.bag.start_ns:
                # Recorded before there was a time.
                self._publish(message)
                continue
            anchor = self._pace(message.time_ns, anchor)
            if anchor is not None:
                self._publish(message)

    def step(self) -> Step | None:
        """Publish the next view and wait until it is taken. None at the end of the bag, or after stop().

        Raises:
            ViewNotTaken: ``wait_for_taken`` says so after the last attempt.
            ValueError: the bag has no views to step by.
        """
        self._start()
        plan = self._view_plan()
        while not self._stopped:
            message = self._peek()
            place = plan.place(self._from_ns) + self._sent
            if self._view is None:
                self._view = plan.next_view(place)
            view = plan.views[self._view] if self._view < len(plan.views) else None
            if view is not None and place > view.last:
                self._view += 1
                while self._recent and self._recent[0][0] < min(view.first, plan.needed_from(self._view)):
                    self._recent.popleft()
                return self._taken(view)
            if message is None:
                return None
            if message.time_ns != self._now_ns or not self._sent:
                self._tick(max(message.time_ns, self.bag.start_ns))
            self._recent.append((place, message))
            self._publish(message)
        return None

    def step_until(self, time_ns: int) -> list[Step]:
        """Step through all views recorded up to and at bag time ``time_ns``."""
        steps: list[Step] = []
        while True:
            self._start()
            plan = self._view_plan()
            self._peek()
            if self._view is None:
                self._view = plan.next_view(plan.place(self._from_ns) + self._sent)
            if self._view >= len(plan.views) or plan.time_ns(self._view) > time_ns:
                return steps
            step = self.step()
            if step is None:
                return steps
            steps.append(step)

    def _view_plan(self) -> ViewPlan:
        """The views of the topics that are listened to now; found once."""
        if self._plan is None:
            color, depth = self.options.view_topics or self._images.best(self.bag, self._publisher.heard())
            if color is None:
                raise ValueError(
                    f"{self.bag.path}: no colour images to step by among {', '.join(self._publisher.topics)}"
                )
            tolerance = round(self.options.view_tolerance * 1e9)
            self._plan = ViewPlan(self.bag, self._publisher.topics, color, depth, tolerance)
            count = len(self._plan.views)
            if not count:
                raise ValueError(
                    f"{self.bag.path}: no view to step by: no image of {color} has one of {depth} within "
                    f"{self.options.view_tolerance:g} s of its stamp"
                )
            beside = f" with {depth}" if depth else ""
            self._log.info(f"{count} views: {self._plan.color_images} images of {color}{beside}")
        return self._plan

    def _taken(self, view: PlannedView) -> Step | None:
        """Wait until a view that was published is taken, sending it again if need be."""
        step = Step(view.stamp_ns, view.has_pose)
        if self._wait_for_taken is None or not step.has_pose:
            return step
        for attempt in range(1, self.options.attempts + 1):
            if self._wait_for_taken(step.stamp_ns):
                return step
            if self._stopped:
                return None
            if attempt < self.options.attempts:
                for place, message in self._recent:
                    if view.first <= place <= view.last:
                        self._publisher.send(message)
        raise ViewNotTaken(
            f"{self.bag.path}: the view of {step.stamp_ns / 1e9:.3f} s was not taken, though sent "
            f"{self.options.attempts} times; subscribers: {self._publisher.subscribers()}"
        )

    def seek(self, time_ns: int) -> None:
        """Go to bag time ``time_ns``: the next message is the first at or after it."""
        with self._condition:
            self._seek_to = max(int(time_ns), self.bag.start_ns)
            self._condition.notify_all()

    def pause(self) -> None:
        """Hold playing in real time; /clock stands."""
        with self._condition:
            self._paused = True

    def resume(self) -> None:
        with self._condition:
            self._paused = False
            self._condition.notify_all()

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """End play(), play_until() and step() soon, for good."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    @property
    def position_ns(self) -> int:
        """Bag time of the next message, or of the last one at the end."""
        message = self._next
        return self._seek_to if self._seek_to is not None else message.time_ns if message else self.bag.end_ns

    def _start(self) -> None:
        if not self._started:
            self.wait_for_subscribers()
            self._started = True

    def _publish_latched(self, before_ns: int) -> None:
        """What a late joiner would have been given."""
        latched = [name for name in self._publisher.topics if self.bag.topics[name].latched]
        for message in self.bag.messages(latched):
            if message.time_ns >= before_ns:
                break
            self._publisher.send(message)

    def _peek(self) -> BagMessage | None:
        """The next message, after a seek if one was asked for; None at the end."""
        with self._condition:
            if self._seek_to is not None:
                # At the start nothing is left out, not even what was recorded at time 0.
                self._from_ns = self._seek_to if self._seek_to > self.bag.start_ns else 0
                self._publish_latched(self._from_ns)
                self._messages = self.bag.messages(self._publisher.topics, self._from_ns)
                self._now_ns, self._sent, self._view = self._seek_to, 0, None
                self._recent.clear()
                self._next = next(self._messages, None)
                self._seek_to = None
            return self._next

    def _publish(self, message: BagMessage) -> None:
        self._publisher.send(message)
        with self._condition:
            if self._seek_to is None:
                self._next = next(self._messages, None)
                self._sent += 1

    def _pace(self, time_ns: int, anchor: tuple[float, int] | None) -> tuple[float, int] | None:
        """Wait until bag time ``time_ns`` is due, ticking the clock; None if a seek, pause or stop came between.

        The anchor pairs a wall time with a bag time.
        """
        while True:
            with self._condition:
                if self._stopped or self._seek_to is not None:
                    return None
                if self._paused:
                    self._condition.wait_for(lambda: not self._paused or self._stopped or self._seek_to is not None)
                    return None
                now = time.monotonic()
                if time_ns - self._now_ns > self.options.max_silence * 1e9:
                    hours = (time_ns - self._now_ns) / 3.6e12
                    self._log.warning(f"{self.bag.path}: jumping over {hours:.1f} h without messages")
                    self._now_ns, anchor = time_ns, None
                if anchor is None:
                    anchor = now, min(self._now_ns, time_ns)
                due_in = anchor[0] + (time_ns - anchor[1]) / 1e9 / self.options.rate - now
                if due_in <= 0:
                    break
                self._tick(time_ns - int(due_in * self.options.rate * 1e9))
                self._condition.wait(min(due_in, _CLOCK_PERIOD_S))
        self._tick(time_ns)
        return (now, time_ns) if due_in < -_MAX_LAG_S else anchor

    def _tick(self, time_ns: int) -> None:
        self._now_ns = time_ns
        self._publisher.tick(time_ns)
