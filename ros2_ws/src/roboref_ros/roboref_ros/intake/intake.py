"""Messages -> views: pairs by stamp, finds camera infos and poses, in a thread of its own.

The executor thread hands over references and returns. Nothing here decodes an image.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import Camera
from roboref_core.views.depth_registration import register_depth, registered_camera
from roboref_core.views.stamp_order import Sorted, StampOrder
from roboref_core.views.view import LazyImage, View
from roboref_core.views.view_buffer import SECOND
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from roboref_ros.conversions import camera_from_info, stamp_ns
from roboref_ros.image_conversion import color_from_message, depth_from_message, image_size
from roboref_ros.intake.diagnosis import Diagnosis, IntakeFacts, StreamFacts, diagnose
from roboref_ros.intake.measuring import StreamMeter, nearest_gap
from roboref_ros.intake.pairing import COLOR, DEPTH, StampPairer
from roboref_ros.poses.base import PoseSource

_log = logging.getLogger(__name__)

# How often a source that cannot notify is asked again [s].
_POLL = 0.01
# Messages that wait to be paired, and pairs that wait for a pose: two seconds of a 30 Hz camera.
_MAX_INBOX = 120
_MAX_PENDING = 60


class StreamTopics(NamedTuple):
    """Resolved names of an image topic and of its camera info topic, for a person."""

    image: str
    info: str


@dataclass(frozen=True)
class _Received:
    """An image, and when it arrived: steady [s]."""

    stream: int
    message: Image | CompressedImage
    arrival: float


@dataclass(frozen=True)
class _Pair:
    color: _Received
    depth: _Received
    deadline: float


class Intake:
    """Completes views in the order of their stamps and hands them on.

    A pair waits at most ``timeout`` for its camera info and its pose. Without a pose it becomes a view
    without one, which answers what can be answered; without a usable camera info it becomes none.

    Args:
        topics: topics of colour and depth.
        max_backwards_ns: how far stamps may come out of order; beyond it they are outliers or a clock jump [ns].
        clock: the node's clock [ns].
        next_id: gives the id of the next view.
        on_view: called with every view, in the intake's thread.
        on_problem: called with what kept a pair from becoming a view.
        on_pose_problem: called with what kept a view from getting its pose.
        on_clear: called when all earlier messages are dropped, in the intake's thread.
        publishers: number of publishers of a topic.
        depth_pose: T_color_depth of two optical frames, without waiting; None: not known (yet).
        timeout: longest wait [s].
        why_missing: stamp [ns], optical frame -> why there is no pose, for a person; may be empty.

    Attributes:
        problem: why the newest pair became no view; None if it did.
        pose_problem: why the newest view has no pose; empty if it has.
        overflowed: images dropped because they came faster than they could be handled.
    """

    def __init__(
        self,
        pairer: StampPairer,
        poses: PoseSource,
        topics: tuple[StreamTopics, StreamTopics],
        max_backwards_ns: int,
        clock: Callable[[], int],
        next_id: Callable[[], str],
        on_view: Callable[[View], None],
        on_problem: Callable[[ReferError], None],
        on_pose_problem: Callable[[str], None],
        on_clear: Callable[[], None],
        publishers: Callable[[str], int],
        depth_pose: Callable[[str, str], np.ndarray | None],
        timeout: float,
        why_missing: Callable[[int, str], str] = lambda stamp_ns, frame: "",
    ):
        self.pairer = pairer
        self.problem: ReferError | None = None
        self.pose_problem = ""
        self.overflowed = 0
        self._meters = StreamMeter(), StreamMeter()
        self._order: StampOrder[_Received] = StampOrder(max_backwards_ns)
        self._poses = poses
        self._topics = topics
        self._clock = clock
        self._next_id = next_id
        self._on_view = on_view
        self._on_problem = on_problem
        self._on_pose_problem = on_pose_problem
        self._on_clear = on_clear
        self._publishers = publishers
        self._depth_pose = depth_pose
        self._timeout = timeout
        self._why_missing = why_missing
        self._infos: list[CameraInfo | None] = [None, None]
        self._inbox: deque[tuple[_Received, int]] = deque()
        self._pending: deque[_Pair] = deque()
        self._changed = threading.Condition()
        self._cleared = self._closed = False
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put_image(self, stream: int, message: Image | CompressedImage) -> None:
        """From the executor thread. Args: stream: pairing.COLOR or DEPTH."""
        with self._changed:
            if len(self._inbox) >= _MAX_INBOX:
                self._inbox.popleft()
                self.overflowed += 1
            self._inbox.append((_Received(stream, message, time.monotonic()), self._clock()))
            self._changed.notify()

    def put_info(self, stream: int, message: CameraInfo) -> None:
        """From the executor thread: the newest camera info of a stream."""
        self._infos[stream] = message
        self.wake()

    def has_info(self, stream: int) -> bool:
        return self._infos[stream] is not None

    def wake(self) -> None:
        """A pose or a camera info has arrived, which a pair may be waiting for."""
        if self._pending:
            with self._changed:
                self._changed.notify()

    def clear(self) -> None:
        """Drop every message handed over before this call: the clock jumped."""
        with self._changed:
            self._inbox.clear()
            self._cleared = True
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def facts(self, simulated: bool = False) -> IntakeFacts:
        """What has been measured until now. Args: simulated: whether the clock follows /clock."""
        now = time.monotonic()
        color, depth = (
            StreamFacts(
                topics.image,
                topics.info,
                meter.count,
                meter.rate,
                meter.silence(now),
                meter.delay,
                self._publishers(topics.image),
                unpaired,
                meter.outliers,
            )
            for topics, meter, unpaired in zip(self._topics, self._meters, self.pairer.dropped, strict=True)
        )
        return IntakeFacts(
            color,
            depth,
            self.pairer.paired,
            nearest_gap(*self._meters),
            self.pairer.slop_ns / SECOND,
            self.pairer.queue_size,
            self.overflowed,
            len(self._pending),
            self.problem,
            self._poses.topic,
            self.pose_problem,
            simulated,
            self._clock() / SECOND,
        )

    def diagnosis(self, simulated: bool = False) -> Diagnosis:
        """Why the newest view is missing or old."""
        return diagnose(self.facts(simulated))

    def summary(self) -> str:
        """What has become of all images, for a person."""
        color, depth = self.pairer.dropped
        outliers = sum(meter.outliers for meter in self._meters)
        return (
            f"{self.pairer.paired} pairs; without partner: {color} colour and {depth} depth images; "
            f"dropped because too many came at once: {self.overflowed}; because of their stamps: {outliers}"
        )

    def _run(self) -> None:
        while True:
            with self._changed:
                if not (self._inbox or self._cleared or self._closed):
                    self._changed.wait(self._next_wait())
                if self._closed:
                    return
                inbox, self._inbox = self._inbox, deque()
                cleared, self._cleared = self._cleared, False
            if cleared:
                self._order.clear()
                self._clear()
            now = time.monotonic()
            for received, clock_ns in inbox:
                stamp = stamp_ns(received.message.header.stamp)
                self._meters[received.stream].add(stamp, received.arrival, clock_ns)
                self._pair(self._order.add(stamp, received, clock_ns), now)
            if self._order.waiting:
                self._pair(self._order.poll(self._clock()), now)
            self._enqueue(self.pairer.poll(now), now)
            while self._pending and self._finish(self._pending[0], final=now >= self._pending[0].deadline):
                self._pending.popleft()

    def _clear(self) -> None:
        self.pairer.clear()
        self._pending.clear()
        for meter in self._meters:
            meter.clear()
        self._on_clear()

    def _pair(self, ordered: Sorted[_Received], now: float) -> None:
        if ordered.jumped:
            self._clear()
        for received in ordered.rejected:
            self._meters[received.stream].outliers += 1
        for stamp, received in ordered.accepted:
            self._enqueue(self.pairer.add(received.stream, stamp, received, now), now)

    def _next_wait(self) -> float | None:
        first = self.pairer.next_deadline()
        deadlines = [] if first is None else [first]
        if self._order.waiting:
            deadlines.append(time.monotonic() + _POLL)
        if self._pending:
            deadlines += [self._pending[0].deadline, time.monotonic() + _POLL]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def _enqueue(self, pairs: list[tuple[_Received, _Received]], now: float) -> None:
        for color, depth in pairs:
            if len(self._pending) >= _MAX_PENDING:
                self._finish(self._pending.popleft(), final=True)
            self._pending.append(_Pair(color, depth, now + self._timeout))

    def _finish(self, pair: _Pair, final: bool) -> bool:
        """Make a view of a pair. False: something may still come that it lacks, and ``final`` is not set."""
        try:
            view = self._view(pair, final)
            if view is None:
                return False
            self.problem = None
            self._on_view(view)
        except ReferError as error:
            if not final and error.code == ErrorCode.CAMERA_INFO_INVALID:
                return False
            self.problem = error
            self._on_problem(error)
        except Exception as error:  # One view must not end the stream.
            _log.exception("view not taken")
            self.problem = ReferError(ErrorCode.UNKNOWN, f"view not taken: {type(error).__name__}: {error}")
            self._on_problem(self.problem)
        return True

    def _view(self, pair: _Pair, final: bool) -> View | None:
        color, depth = pair.color.message, pair.depth.message
        stamp, frame = stamp_ns(color.header.stamp), color.header.frame_id
        color_size, depth_size = self._size(COLOR, color), self._size(DEPTH, depth)
        camera = self._camera(COLOR, color_size, frame)
        depth_camera = self._depth_camera(camera, depth_size, depth.header.frame_id, frame, final)
        T_color_depth = None
        if depth.header.frame_id != frame:
            T_color_depth = self._depth_pose(frame, depth.header.frame_id)
            if T_color_depth is None:
                if not final:
                    return None
                raise self._unregistered(frame, depth.header.frame_id)
        try:
            pose = self._poses.camera_pose(stamp, frame, final)
            if pose is None and not final:
                return None
            self.pose_problem = "" if pose else self._no_pose(stamp, frame)
        except ValueError as error:
            pose, self.pose_problem = None, str(error)
        if self.pose_problem:
            self._on_pose_problem(self.pose_problem)
        read, seen_by = _depth_reader(depth, depth_camera, camera, T_color_depth)
        return View(
            view_id=self._next_id(),
            stamp_ns=stamp,
            color=LazyImage(lambda: color_from_message(color), len(color.data)),
            camera=camera,
            depth=LazyImage(read, len(depth.data)),
            depth_camera=seen_by,
            T_world_camera=pose.T_world_camera if pose else None,
            frame_id=frame,
            world_frame=pose.world_frame if pose else self._poses.world_frame,
            arrival=max(pair.color.arrival, pair.depth.arrival),
        )

    def _no_pose(self, stamp: int, frame: str) -> str:
        text = f"no pose for stamp {stamp * 1e-9:.3f} s on {self._poses.topic}"
        reason = self._why_missing(stamp, frame).rstrip(". ")
        return f"{text}: {reason}" if reason else text

    def _unregistered(self, frame: str, depth_frame: str) -> ReferError:
        return ReferError(
            ErrorCode.IMAGE_INVALID,
            f"{self._topics[COLOR].image} is in frame {frame!r}, {self._topics[DEPTH].image} in {depth_frame!r}, and "
            "nothing tells where one is in the other: use the driver's registered depth, or give the transform by TF "
            "or by depth.extrinsics",
        )

    def _size(self, stream: int, image: Image | CompressedImage) -> tuple[int, int]:
        """(height, width), from headers alone."""
        try:
            return image_size(image, depth=stream == DEPTH)
        except ValueError as error:
            raise ReferError(ErrorCode.IMAGE_INVALID, f"{self._topics[stream].image}: {error}") from error

    def _camera(self, stream: int, size: tuple[int, int], frame: str) -> Camera:
        topics, info = self._topics[stream], self._infos[stream]
        if info is None:
            raise ReferError(ErrorCode.CAMERA_INFO_INVALID, f"no camera info has arrived on {topics.info}")
        try:
            camera = camera_from_info(info)
            camera.check_size(size, f"an image of {topics.image}")
        except ValueError as error:
            raise ReferError(ErrorCode.CAMERA_INFO_INVALID, f"{topics.info}: {error}") from error
        # Some drivers leave the frame of their camera infos empty.
        if info.header.frame_id not in ("", frame):
            raise ReferError(
                ErrorCode.CAMERA_INFO_INVALID,
                f"{topics.info} is of frame {info.header.frame_id!r}, {topics.image} of {frame!r}: is it another "
                "camera's?",
            )
        return camera

    def _depth_camera(
        self, camera: Camera, size: tuple[int, int], depth_frame: str, color_frame: str, final: bool
    ) -> Camera:
        """Its own camera info's, or colour's where nobody publishes one, and frames and sizes agree."""
        registered = size == (camera.height, camera.width) and depth_frame == color_frame
        missing = self._infos[DEPTH] is None
        if missing and registered and (final or not self._publishers(self._topics[DEPTH].info)):
            return camera
        return self._camera(DEPTH, size, depth_frame)


def _depth_reader(
    message: Image | CompressedImage, depth: Camera, color: Camera, T_color_depth: np.ndarray | None
) -> tuple[Callable[[], np.ndarray], Camera]:
    """What decodes the depth image, registered to colour, and the camera of the result."""
    if T_color_depth is None:
        return lambda: depth_from_message(message), depth
    target = registered_camera(color, depth)
    return lambda: register_depth(depth_from_message(message), depth, target, T_color_depth), target
