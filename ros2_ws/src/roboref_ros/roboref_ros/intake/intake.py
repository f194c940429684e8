"""Messages -> views: pairs by stamp, finds camera infos and poses, in a thread of its own.

The executor thread hands over references and returns. Nothing here decodes an image.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import Camera
from roboref_core.views.view import LazyImage, View
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from roboref_ros.conversions import camera_from_info, stamp_ns
from roboref_ros.image_conversion import (
    COLOR_ENCODINGS,
    DEPTH_ENCODINGS,
    color_from_message,
    depth_from_message,
    raw_size,
)
from roboref_ros.intake.pairing import COLOR, DEPTH, StampPairer
from roboref_ros.poses.base import PoseSource

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
class _Pair:
    color: Image | CompressedImage
    depth: Image | CompressedImage
    deadline: float


class Intake:
    """Completes views in the order of their stamps and hands them on.

    A pair waits at most ``timeout`` for its camera info and its pose. Without a pose it becomes a view
    without one, which answers what can be answered; without a usable camera info it becomes none.

    Args:
        topics: of colour and depth.
        next_id: gives the id of the next view.
        on_view: called with every view, in the intake's thread.
        on_problem: called with what kept a pair from becoming a view, or its pose from being used.
        on_clear: called when all earlier messages are dropped, in the intake's thread.
        depth_info_expected: whether somebody publishes camera infos for depth.
        timeout: longest wait [s].

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
        next_id: Callable[[], str],
        on_view: Callable[[View], None],
        on_problem: Callable[[ReferError], None],
        on_clear: Callable[[], None],
        depth_info_expected: Callable[[], bool],
        timeout: float,
    ):
        self.pairer = pairer
        self.problem: ReferError | None = None
        self.pose_problem = ""
        self._received = [0, 0]
        self.overflowed = 0
        self._poses = poses
        self._topics = topics
        self._next_id = next_id
        self._on_view = on_view
        self._on_problem = on_problem
        self._on_clear = on_clear
        self._depth_info_expected = depth_info_expected
        self._timeout = timeout
        self._infos: list[CameraInfo | None] = [None, None]
        self._inbox: deque[tuple[int, Image | CompressedImage]] = deque()
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
            self._inbox.append((stream, message))
            self._changed.notify()

    def put_info(self, stream: int, message: CameraInfo) -> None:
        """From the executor thread: the newest camera info of a stream."""
        self._infos[stream] = message
        self.wake()

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
        self._thread.join()

    def diagnosis(self) -> str:
        """Why there has been no view since the last one, for a person."""
        if self.problem is not None:
            return str(self.problem)
        color, depth = (topics.image for topics in self._topics)
        received = self._received
        if not any(received):
            return f"no image arrives on {color} nor on {depth}"
        if not all(received):
            silent, other = (color, depth) if not received[COLOR] else (depth, color)
            return f"{sum(received)} images have arrived on {other}, but none on {silent}"
        if self._pending:
            return f"waiting for camera info on {self._topics[COLOR].info} and for a pose on {self._poses.topic}"
        return (
            f"{received[COLOR]} images on {color} and {received[DEPTH]} on {depth}, but no two with stamps within "
            f"{self.pairer.slop_ns * 1e-9:g} s of each other (sync.slop)"
        )

    def summary(self) -> str:
        """What has become of all images, for a person."""
        color, depth = self.pairer.dropped
        return (
            f"{self.pairer.paired} pairs; without partner: {color} colour and {depth} depth images; "
            f"dropped because too many came at once: {self.overflowed}"
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
                self.pairer.clear()
                self._pending.clear()
                self._on_clear()
            now = time.monotonic()
            for stream, message in inbox:
                self._received[stream] += 1
                self._enqueue(self.pairer.add(stream, stamp_ns(message.header.stamp), message, now), now)
            self._enqueue(self.pairer.poll(now), now)
            while self._pending and self._finish(self._pending[0], final=now >= self._pending[0].deadline):
                self._pending.popleft()

    def _next_wait(self) -> float | None:
        deadlines = [self.pairer.next_deadline()]
        if self._pending:
            deadlines += [self._pending[0].deadline, time.monotonic() + _POLL]
        deadlines = [deadline for deadline in deadlines if deadline is not None]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def _enqueue(self, pairs: list, now: float) -> None:
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
            self._received = [0, 0]
            self._on_view(view)
        except ReferError as error:
            if not final and error.code == ErrorCode.CAMERA_INFO_INVALID:
                return False
            self._reject(error)
        except Exception as error:  # One view must not end the stream.
            self._reject(ReferError(ErrorCode.UNKNOWN, f"view not taken: {type(error).__name__}: {error}"))
        return True

    def _reject(self, error: ReferError) -> None:
        self.problem = error
        self._on_problem(error)

    def _view(self, pair: _Pair, final: bool) -> View | None:
        color, depth = pair.color, pair.depth
        stamp, frame = stamp_ns(color.header.stamp), color.header.frame_id
        color_size = self._size(COLOR, color, COLOR_ENCODINGS)
        depth_size = self._size(DEPTH, depth, DEPTH_ENCODINGS)
        camera = self._camera(COLOR, color_size)
        depth_camera = self._depth_camera(camera, depth_size, final)
        try:
            pose = self._poses.camera_pose(stamp, frame, final)
            if pose is None and not final:
                return None
            self.pose_problem = "" if pose else f"no pose for stamp {stamp * 1e-9:.3f} s on {self._poses.topic}"
        except ValueError as error:
            pose, self.pose_problem = None, str(error)
        if self.pose_problem:
            self._on_problem(ReferError(ErrorCode.TF_ERROR, self.pose_problem))
        if depth.header.frame_id != frame:
            self._on_problem(
                ReferError(
                    ErrorCode.IMAGE_INVALID,
                    f"{self._topics[COLOR].image} is in frame {frame!r}, {self._topics[DEPTH].image} in "
                    f"{depth.header.frame_id!r}: depth must be registered to colour",
                )
            )
        return View(
            view_id=self._next_id(),
            stamp_ns=stamp,
            color=LazyImage(lambda: color_from_message(color), len(color.data)),
            camera=camera,
            depth=LazyImage(lambda: depth_from_message(depth), len(depth.data)),
            depth_camera=depth_camera,
            T_world_camera=pose.T_world_camera if pose else None,
            frame_id=frame,
            world_frame=pose.world_frame if pose else self._poses.world_frame,
        )

    def _size(self, stream: int, image: Image | CompressedImage, encodings) -> tuple[int, int] | None:
        """(height, width); None if only decoding would tell."""
        try:
            return None if isinstance(image, CompressedImage) else raw_size(image, encodings)
        except ValueError as error:
            raise ReferError(ErrorCode.IMAGE_INVALID, f"{self._topics[stream].image}: {error}") from error

    def _camera(self, stream: int, size: tuple[int, int] | None) -> Camera:
        topics, info = self._topics[stream], self._infos[stream]
        if info is None:
            raise ReferError(ErrorCode.CAMERA_INFO_INVALID, f"no camera info has arrived on {topics.info}")
        try:
            camera = camera_from_info(info)
            if size is not None:
                camera.check_size(size, f"an image of {topics.image}")
        except ValueError as error:
            raise ReferError(ErrorCode.CAMERA_INFO_INVALID, f"{topics.info}: {error}") from error
        return camera

    def _depth_camera(self, camera: Camera, size: tuple[int, int] | None, final: bool) -> Camera:
        """Its own camera info's, or colour's where nobody publishes one and the sizes agree."""
        registered = size is None or size == (camera.height, camera.width)
        missing = self._infos[DEPTH] is None
        if missing and registered and (final or not self._depth_info_expected()):
            return camera
        return self._camera(DEPTH, size)
