"""What exists only while the node is active: the model, and what brings it pictures and poses."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

import numpy as np
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.camera import Camera
from roboref_core.models.pointing_model import PointingModel, PointingRequest
from roboref_core.models.registry import load_model, parse_options, runs_a_network
from roboref_core.views.view import View
from roboref_core.views.view_buffer import SECOND, ViewBuffer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from roboref_ros.ending import unless_ending
from roboref_ros.intake.intake import Intake, StreamTopics
from roboref_ros.intake.pairing import COLOR, DEPTH, StampPairer
from roboref_ros.parameters import depth_extrinsics, pose_config
from roboref_ros.poses.choose import make_pose_source
from roboref_ros.services.answering import Answering
from roboref_ros.services.pose_residuals import PoseResiduals

_OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
# Longest wait for a model that is answering when it is told to stop [s].
_STOP = 5.0


class Watcher(Protocol):
    """Who is told what the session sees. All calls come from the intake's thread."""

    def on_view(self, view: View) -> None:
        """A view is in the buffer."""

    def on_forgotten(self, pinned: int) -> None:
        """The clock jumped, and only pinned views are left."""

    def on_problem(self, kind: object, text: str) -> None:
        """Something is wrong, of a kind that is worth one message in a while."""


class Session:
    """Subscriptions, poses, intake and the loaded, warmed model, from activation to deactivation.

    Args:
        node: gives parameters, clock and topics.
        buffer: takes the views.

    Attributes:
        intake, poses, topics, residuals, answering: its parts; topics of colour and depth.
        last_view: time.monotonic() of the newest view, or of the activation [s].

    Raises ValueError, ImportError or ReferError, saying what to change, if a parameter or the model cannot be used;
    nothing is left behind then.
    """

    def __init__(self, node: Node, buffer: ViewBuffer, watcher: Watcher):
        self._node = node
        self._buffer = buffer
        self._watcher = watcher
        self._latched: dict[str, Subscription] = {}
        self._T_color_depth = depth_extrinsics(node)
        self.topics = self._stream_topics("color"), self._stream_topics("depth")
        with ExitStack() as opened:
            model = _model(node)
            opened.callback(_free_memory)
            config = pose_config(node)
            self.poses = make_pose_source(node, config, self._value("qos_depth"), lambda: self.intake.wake())
            opened.callback(self.poses.close)
            self.intake = Intake(
                StampPairer(
                    round(self._value("sync.slop") * SECOND),
                    self._value("sync.queue_size"),
                    round(self._value("sync.max_backwards") * SECOND),
                ),
                self.poses,
                self.topics,
                round(self._value("sync.max_backwards") * SECOND),
                clock=lambda: node.get_clock().now().nanoseconds,
                next_id=buffer.next_id,
                on_view=self._take,
                on_problem=lambda problem: watcher.on_problem(problem.code, f"images not used: {problem}"),
                on_pose_problem=lambda problem: watcher.on_problem(
                    "pose", f"view taken, but without a pose: {problem}"
                ),
                on_clear=self._forget,
                publishers=self._count_publishers,
                depth_pose=self._depth_pose,
                timeout=config.timeout,
                why_missing=self.poses.why_missing,
            )
            opened.callback(self.intake.close)
            self.residuals = PoseResiduals(node, buffer, self._value("pose.residual_period"))
            opened.callback(self.residuals.close)
            self.answering = Answering(node, buffer, self.intake, model, self.poses.frames, self.residuals)
            opened.callback(self.stop_answering)
            self.last_view = time.monotonic()
            self.intake.start()
            self._subscribe(opened)
            back = Duration(nanoseconds=-max(round(config.max_backwards * SECOND), 1))
            jumps = node.get_clock().create_jump_callback(
                JumpThreshold(min_forward=None, min_backward=back, on_clock_change=True),
                post_callback=self._on_clock_jump,
            )
            opened.callback(jumps.unregister)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Answer who waits with CANCELED, stop all threads and let go of the model and its memory."""
        self._opened.close()

    def stop_answering(self) -> None:
        """Answer who waits with CANCELED, and stop the model."""
        if not self.answering.close(_STOP):
            # Not the node's own logger, which would publish: the context may have ended.
            get_logger(f"{self._node.get_name()}.end").warning("the model is still answering: not waited for")

    def listen_to_latched(self) -> None:
        """Also hear a camera info that was sent once, before this node started, if somebody keeps one."""
        for stream, topics in enumerate(self.topics):
            if self.intake.has_info(stream) or topics.info in self._latched:
                continue
            with unless_ending(self._node):
                publishers = self._node.get_publishers_info_by_topic(topics.info)
                if any(p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers):
                    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
                    put = partial(self.intake.put_info, stream)
                    self._latched[topics.info] = self._node.create_subscription(CameraInfo, topics.info, put, qos)
                    self._opened.callback(self._node.destroy_subscription, self._latched[topics.info])

    def _value(self, name: str) -> Any:
        return self._node.get_parameter(name).value

    def _stream_topics(self, stream: str) -> StreamTopics:
        # A transport's topic is named after the remapped one, as image_transport does.
        base, transport = self._node.resolve_topic_name(f"{stream}/image_raw"), self._value(f"{stream}.transport")
        image = base if transport == "raw" else self._node.resolve_topic_name(f"{base}/{transport}")
        return StreamTopics(image, self._node.resolve_topic_name(f"{stream}/camera_info"))

    def _subscribe(self, opened: ExitStack) -> None:
        for stream, name in ((COLOR, "color"), (DEPTH, "depth")):
            kind = Image if self._value(f"{name}.transport") == "raw" else CompressedImage
            self._listen(opened, kind, self.topics[stream].image, partial(self.intake.put_image, stream))
            self._listen(opened, CameraInfo, self.topics[stream].info, partial(self.intake.put_info, stream))

    def _listen(self, opened: ExitStack, kind: type, topic: str, put: Callable[[Any], None]) -> None:
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self._value("qos_depth"),
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        overriding = QoSOverridingOptions(policy_kinds=_OVERRIDABLE)
        subscription = self._node.create_subscription(kind, topic, put, qos, qos_overriding_options=overriding)
        opened.callback(self._node.destroy_subscription, subscription)

    def _take(self, view: View) -> None:
        """In the intake's thread."""
        self.last_view = time.monotonic()
        self._buffer.add(view)
        self.answering.on_view()
        self._watcher.on_view(view)

    def _forget(self) -> None:
        """The clock jumped: only pinned views are left."""
        pinned = self._buffer.clear()
        self.residuals.forget()
        self._watcher.on_forgotten(pinned)

    def _count_publishers(self, topic: str) -> int:
        with unless_ending(self._node):
            return self._node.count_publishers(topic)
        return 0

    def _depth_pose(self, color_frame: str, depth_frame: str) -> np.ndarray | None:
        """T_color_depth, from the parameter or from the source of poses."""
        if self._T_color_depth is not None:
            return self._T_color_depth
        return self.poses.newest(color_frame, depth_frame)

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self.poses.clear()
        self.intake.clear()


def _model(node: Node) -> PointingModel:
    """The model that the parameters name, warmed: the first question finds memory and kernels ready."""
    backend, *where = (
        node.get_parameter(f"model.{name}").value for name in ("backend", "path", "url", "device", "dtype")
    )
    options = parse_options(text for text in node.get_parameter("model.options").value if text)
    model = load_model(backend, *where, **options)
    if runs_a_network(backend, options):
        grey = np.full((480, 640, 3), 128, dtype=np.uint8)
        depth = np.ones(grey.shape[:2], dtype=np.float32)
        camera = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
        view = View(view_id="warm-up", stamp_ns=0, color=grey, camera=camera, depth=depth)
        try:
            model.predict(PointingRequest("the middle of the picture", view))
        except ReferError as error:
            if error.code is ErrorCode.OUT_OF_MEMORY:
                raise
            node.get_logger().warning(f"the model did not answer when it was warmed: {error}")
    return model


def _free_memory() -> None:
    """Give what the model held back to the system and the GPU; its last reference is gone."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
