"""The node: wires topics, clock, buffer, model and services together, and shuts them down."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from roboref_core.errors import ErrorCode
from roboref_core.models.registry import load_model, parse_options
from roboref_core.views.view import View
from roboref_core.views.view_buffer import SECOND, ViewBuffer
from roboref_msgs.msg import ReferenceView
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from roboref_ros import parameters
from roboref_ros.conversions import view_to_message
from roboref_ros.ending import unless_ending
from roboref_ros.intake.diagnosis import diagnose
from roboref_ros.intake.intake import Intake, StreamTopics
from roboref_ros.intake.pairing import COLOR, DEPTH, StampPairer
from roboref_ros.poses.choose import make_pose_source
from roboref_ros.ros_time import is_simulated
from roboref_ros.services.action import ReferAction
from roboref_ros.services.diagnostics import ERROR, OK, WARN, Diagnostics, status
from roboref_ros.services.futures import Deadlines
from roboref_ros.services.questions import Questions
from roboref_ros.services.view_services import ViewServices

_OVERRIDABLE = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)
_MODEL_FAILS = (ErrorCode.INFERENCE_FAILED, ErrorCode.OUT_OF_MEMORY, ErrorCode.TIMEOUT, ErrorCode.BUSY)
# The same trouble is named this often [s].
_REPEAT = 5.0
# Longest wait for a model that is answering when the node is told to end [s].
_SHUTDOWN = 5.0


class RoborefNode(Node):
    """Answers where the things are that people ask for or point at in earlier views.

    Topics (relative, to be remapped): color/image_raw, color/camera_info, depth/image_raw,
    depth/camera_info, and odom or pose. Services and publications are under the node's own name.

    Raises ValueError or ImportError, saying what to change, if a parameter or the model cannot be used.
    """

    def __init__(self, **kwargs: Any):
        super().__init__("roboref", **kwargs)
        parameters.declare(self)
        self._warned: dict[object, float] = {}
        self._last_view = time.monotonic()
        self._overflowed = 0
        self._latched: dict[str, Subscription] = {}
        self._T_color_depth = parameters.depth_extrinsics(self)
        self._buffer = ViewBuffer(parameters.buffer_config(self))
        model = load_model(
            *(self._value(f"model.{name}") for name in ("backend", "path", "url", "device", "dtype")),
            **parse_options(text for text in self._value("model.options") if text),
        )
        self._model_name = model.name
        self._deadlines = Deadlines()
        self._topics = self._stream_topics("color"), self._stream_topics("depth")
        pose_config = parameters.pose_config(self)
        self._poses = make_pose_source(self, pose_config, self._value("qos_depth"), lambda: self._intake.wake())
        self._intake = Intake(
            StampPairer(
                round(self._value("sync.slop") * SECOND),
                self._value("sync.queue_size"),
                round(self._value("sync.max_backwards") * SECOND),
            ),
            self._poses,
            self._topics,
            round(self._value("sync.max_backwards") * SECOND),
            clock=lambda: self.get_clock().now().nanoseconds,
            next_id=self._buffer.next_id,
            on_view=self._take,
            on_problem=lambda problem: self._warn(problem.code, f"images not used: {problem}"),
            on_pose_problem=lambda problem: self._warn("pose", f"view taken, but without a pose: {problem}"),
            on_clear=self._forget_views,
            publishers=self._count_publishers,
            depth_pose=self._depth_pose,
            timeout=pose_config.timeout,
        )
        # A late player or display still gets the newest ones.
        taken = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._views = self.create_publisher(ReferenceView, "~/view", taken)
        self._view_services = ViewServices(self, self._buffer, self._deadlines)
        self._questions = Questions(self, self._buffer, self._intake, model, self._poses.frames, self._deadlines)
        self._action = ReferAction(self, self._questions)
        self._intake.start()
        self._subscribe()
        back = Duration(nanoseconds=-max(round(pose_config.max_backwards * SECOND), 1))
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=back, on_clock_change=True), post_callback=self._on_clock_jump
        )
        self._diagnostics = Diagnostics(
            self, {"intake": self._intake_status, "poses": self._pose_status, "questions": self._question_status}
        )
        # Steady: it must speak when the clock of a paused bag stands still.
        self._watch = self.create_timer(1.0, self._look_for_trouble, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(
            f"model {model.name}, poses from {self._poses.topic}, images from {self._topics[COLOR].image} and "
            f"{self._topics[DEPTH].image}"
        )

    def stop_answering(self) -> None:
        """Answer who waits, with CANCELED or NOT_ACTIVE; the executor must still run."""
        if not self._questions.close(_SHUTDOWN):
            # Not the node's own logger, which would publish: the context may have ended.
            get_logger(f"{self.get_logger().name}.end").warning("the model is still answering: not waited for")
        self._deadlines.close()

    def close(self) -> None:
        """Stop all threads; the node is of no use afterwards."""
        self.stop_answering()
        self._intake.close()
        get_logger(f"{self.get_logger().name}.end").info(self._intake.summary())
        self._poses.close()
        self._view_services.close()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _stream_topics(self, stream: str) -> StreamTopics:
        # A transport's topic is named after the remapped one, as image_transport does.
        base, transport = self.resolve_topic_name(f"{stream}/image_raw"), self._value(f"{stream}.transport")
        image = base if transport == "raw" else self.resolve_topic_name(f"{base}/{transport}")
        return StreamTopics(image, self.resolve_topic_name(f"{stream}/camera_info"))

    def _subscribe(self) -> None:
        for stream, name in ((COLOR, "color"), (DEPTH, "depth")):
            kind = Image if self._value(f"{name}.transport") == "raw" else CompressedImage
            self._listen(kind, self._topics[stream].image, partial(self._intake.put_image, stream))
            self._listen(CameraInfo, self._topics[stream].info, partial(self._intake.put_info, stream))

    def _listen(self, kind: type, topic: str, put: Callable[[Any], None]) -> None:
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self._value("qos_depth"),
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        overriding = QoSOverridingOptions(policy_kinds=_OVERRIDABLE)
        self.create_subscription(kind, topic, put, qos, qos_overriding_options=overriding)

    def _listen_to_latched(self) -> None:
        """Also hear a camera info that was sent once, before this node started, if somebody keeps one."""
        for stream, topics in enumerate(self._topics):
            if self._intake.has_info(stream) or topics.info in self._latched:
                continue
            with unless_ending(self):
                publishers = self.get_publishers_info_by_topic(topics.info)
                if any(p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers):
                    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
                    put = partial(self._intake.put_info, stream)
                    self._latched[topics.info] = self.create_subscription(CameraInfo, topics.info, put, qos)

    def _take(self, view: View) -> None:
        """In the intake's thread."""
        self._last_view = time.monotonic()
        self._buffer.add(view)
        self._view_services.on_view(view)
        with unless_ending(self):
            self._views.publish(view_to_message(view, self._buffer.is_pinned(view.view_id), coverage=False))

    def _count_publishers(self, topic: str) -> int:
        with unless_ending(self):
            return self.count_publishers(topic)
        return 0

    def _depth_pose(self, color_frame: str, depth_frame: str) -> np.ndarray | None:
        """T_color_depth, from the parameter or from the source of poses."""
        if self._T_color_depth is not None:
            return self._T_color_depth
        return self._poses.newest(color_frame, depth_frame)

    def _forget_views(self) -> None:
        pinned = self._buffer.clear()
        self.get_logger().warning(f"the clock jumped: all views are forgotten but {pinned} pinned ones")

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self._poses.clear()
        self._intake.clear()

    def _look_for_trouble(self) -> None:
        self._listen_to_latched()
        silent = time.monotonic() - self._last_view
        if silent > self._value("sync.warn_after"):
            diagnosis = self._intake.diagnosis(is_simulated(self))
            self._warn("silent", f"no view for {silent:.0f} s: {diagnosis.text}")
        if self._intake.overflowed > self._overflowed:
            self._overflowed = self._intake.overflowed
            self._warn("overflow", f"images come faster than they are handled: {self._intake.summary()}")
        for topics in self._topics:
            publishers = self.count_publishers(topics.image)
            if publishers > 1:
                self._warn(topics.image, f"{publishers} publishers on {topics.image}: their images are mixed up")

    def _intake_status(self) -> DiagnosticStatus:
        facts = self._intake.facts(is_simulated(self))
        silent = time.monotonic() - self._last_view
        values: dict[str, object] = {
            "time since the last view [s]": silent,
            "pairs": facts.pairs,
            "dropped because too many came": facts.overflowed,
            "buffered views": len(self._buffer),
            "buffered images [byte]": self._buffer.nbytes,
        }
        for stream in (facts.color, facts.depth):
            values[f"{stream.topic} rate [Hz]"] = stream.rate
            values[f"{stream.topic} delay [s]"] = stream.delay
            values[f"{stream.topic} publishers"] = stream.publishers
            values[f"{stream.topic} without partner"] = stream.unpaired
            values[f"{stream.topic} with outlying stamps"] = stream.outliers
        if silent > self._value("sync.warn_after"):
            return status(ERROR, diagnose(facts).text, values)
        if facts.problem is not None or abs(facts.color.delay) > self._value("refer.max_view_age"):
            return status(WARN, diagnose(facts).text, values)
        return status(OK, "views arrive", values)

    def _pose_status(self) -> DiagnosticStatus:
        newest = self._buffer.newest()
        problem = self._intake.pose_problem
        values: dict[str, object] = {"source": self._poses.topic, "world frame": self._poses.world_frame}
        if newest is not None:
            values["newest view has a pose"] = newest.T_world_camera is not None
        return status(WARN, problem, values) if problem else status(OK, "poses arrive", values)

    def _question_status(self) -> DiagnosticStatus:
        newest = self._questions.newest
        values: dict[str, object] = {"waiting": self._questions.waiting, "model": self._model_name}
        if newest is None:
            return status(OK, "nothing was asked yet", values)
        values |= {
            "newest answer": newest.status.name,
            "inference [s]": newest.inference_time,
            "queued [s]": newest.queue_time,
        }
        if newest.error_code in _MODEL_FAILS:
            return status(WARN, f"{newest.error_code.name}: {newest.error_msg}", values)
        return status(OK, "questions are answered", values)

    def _warn(self, kind: object, text: str) -> None:
        now = time.monotonic()
        if now - self._warned.get(kind, -_REPEAT) >= _REPEAT:
            self._warned[kind] = now
            self.get_logger().warning(text)
