"""The node: wires topics, clock, buffer, model and services together, and shuts them down."""

from __future__ import annotations

import time

import rclpy
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from roboref_core.errors import ReferError
from roboref_core.models.registry import load_model, parse_options
from roboref_core.views.view import View
from roboref_core.views.view_buffer import SECOND, ViewBuffer
from roboref_msgs.msg import ReferenceView
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from roboref_ros import parameters
from roboref_ros.conversions import view_to_message
from roboref_ros.ending import spin, unless_ending
from roboref_ros.intake.intake import Intake, StreamTopics
from roboref_ros.intake.pairing import COLOR, DEPTH, StampPairer
from roboref_ros.poses.choose import make_pose_source
from roboref_ros.services.futures import Deadlines
from roboref_ros.services.questions import Questions
from roboref_ros.services.view_services import ViewServices

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

    def __init__(self, **kwargs):
        super().__init__("roboref", **kwargs)
        parameters.declare(self)
        self._warned: dict[object, float] = {}
        self._last_view = time.monotonic()
        self._overflowed = 0
        self._buffer = ViewBuffer(parameters.buffer_config(self))
        model = load_model(
            *(self._value(f"model.{name}") for name in ("backend", "path", "url", "device", "dtype")),
            **parse_options(text for text in self._value("model.options") if text),
        )
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
            next_id=self._buffer.next_id,
            on_view=self._take,
            on_problem=self._report,
            on_clear=self._buffer.clear,
            depth_info_expected=self._depth_info_expected,
            timeout=pose_config.timeout,
        )
        # A late player or display still gets the newest ones.
        taken = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._views = self.create_publisher(ReferenceView, "~/view", taken)
        self._view_services = ViewServices(self, self._buffer, self._deadlines)
        self._questions = Questions(self, self._buffer, self._intake, model, self._poses.frames, self._deadlines)
        self._intake.start()
        self._subscribe()
        back = Duration(nanoseconds=-max(round(pose_config.max_backwards * SECOND), 1))
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=back, on_clock_change=True), post_callback=self._on_clock_jump
        )
        # Steady: it must speak when the clock of a paused bag stands still.
        self._watch = self.create_timer(1.0, self._look_for_trouble, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(
            f"model {model.name}, poses from {self._poses.topic}, images from {self._topics[COLOR].image} and "
            f"{self._topics[DEPTH].image}"
        )

    def close(self) -> None:
        """Stop all threads; the node is of no use afterwards."""
        self._intake.close()
        # Not the node's own logger, which would publish: the context may have ended.
        logger = get_logger(f"{self.get_logger().name}.end")
        logger.info(self._intake.summary())
        self._poses.close()
        self._view_services.close()
        if not self._questions.close(_SHUTDOWN):
            logger.warning("the model is still answering: not waited for")
        self._deadlines.close()

    def _value(self, name: str):
        return self.get_parameter(name).value

    def _stream_topics(self, stream: str) -> StreamTopics:
        # A transport's topic is named after the remapped one, as image_transport does.
        base, transport = self.resolve_topic_name(f"{stream}/image_raw"), self._value(f"{stream}.transport")
        image = base if transport == "raw" else self.resolve_topic_name(f"{base}/{transport}")
        return StreamTopics(image, self.resolve_topic_name(f"{stream}/camera_info"))

    def _subscribe(self) -> None:
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self._value("qos_depth"),
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        for stream, name in ((COLOR, "color"), (DEPTH, "depth")):
            kind = Image if self._value(f"{name}.transport") == "raw" else CompressedImage
            for message, topic, put in (
                (kind, self._topics[stream].image, self._intake.put_image),
                (CameraInfo, self._topics[stream].info, self._intake.put_info),
            ):
                self.create_subscription(
                    message,
                    topic,
                    lambda received, stream=stream, put=put: put(stream, received),
                    qos,
                    qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                )

    def _take(self, view: View) -> None:
        """In the intake's thread."""
        self._last_view = time.monotonic()
        self._buffer.add(view)
        self._view_services.on_view(view)
        with unless_ending(self):
            self._views.publish(view_to_message(view, self._buffer.is_pinned(view.view_id), coverage=False))

    def _depth_info_expected(self) -> bool:
        """In the intake's thread."""
        with unless_ending(self):
            return self.count_publishers(self._topics[DEPTH].info) > 0
        return False

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self.get_logger().warning("the clock jumped: all views are forgotten")
        self._poses.clear()
        self._intake.clear()

    def _look_for_trouble(self) -> None:
        silent = time.monotonic() - self._last_view
        if silent > self._value("sync.warn_after"):
            self._warn("silent", f"no view for {silent:.0f} s: {self._intake.diagnosis()}")
        if self._intake.overflowed > self._overflowed:
            self._overflowed = self._intake.overflowed
            self._warn("overflow", f"images come faster than they are handled: {self._intake.summary()}")
        for topics in self._topics:
            publishers = self.count_publishers(topics.image)
            if publishers > 1:
                self._warn(topics.image, f"{publishers} publishers on {topics.image}: their images are mixed up")

    def _report(self, problem: ReferError) -> None:
        """In the intake's thread."""
        taken = problem is not self._intake.problem
        self._warn(problem.code, f"{'view taken, but' if taken else 'images not used:'} {problem}")

    def _warn(self, kind: object, text: str) -> None:
        now = time.monotonic()
        if now - self._warned.get(kind, -_REPEAT) >= _REPEAT:
            self._warned[kind] = now
            self.get_logger().warning(text)


def main(args=None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns 0; 1 if it cannot start."""
    rclpy.init(args=args)
    node = None
    try:
        node = RoborefNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        spin(executor)
    except (ValueError, ImportError) as error:
        get_logger("roboref").fatal(str(error))
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
