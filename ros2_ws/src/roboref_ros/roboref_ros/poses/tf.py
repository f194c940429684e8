"""Poses and frames from TF. The only module that needs tf2_ros."""

from __future__ import annotations

import threading
import time

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.time import Time
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import from_quaternion
from roboref_core.referring.frames import FrameLookup
from roboref_core.views.view_buffer import SECOND

from roboref_ros.conversions import stamp_ns
from roboref_ros.ending import spin
from roboref_ros.poses.base import CameraPose, PoseConfig

_POLL = 0.005


class TfPoses:
    """Camera poses in the fixed frame, and any other transform that TF knows.

    TF is received by a small node on an executor thread of its own: tf2_ros can spin the node it is
    given, but that would put every callback of ours on a second executor. Its buffer is cleared by
    ``clear`` and gets no node: the jump callback it then installs raises in some releases.
    """

    def __init__(self, node: Node, config: PoseConfig):
        try:
            from tf2_ros import Buffer, TransformException, TransformListener
        except ImportError as error:
            raise ValueError(
                f"pose.source is 'tf', but tf2_ros cannot be imported ({error}): install ROS 2's tf2_ros_py, or set "
                "pose.source to odometry or pose"
            ) from error
        self._config = config
        self._error = TransformException
        name = f"{node.get_name()}_tf"
        # A launch file renames every node of the process; an argument of the node's own comes first.
        self._node = Node(
            name,
            namespace=node.get_namespace(),
            context=node.context,
            cli_args=["--ros-args", "-r", f"__node:={name}"],
            start_parameter_services=False,
        )
        self._buffer = Buffer(cache_time=Duration(seconds=config.tf_cache_time))
        self._listener = TransformListener(self._buffer, self._node, spin_thread=False)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=spin, args=(self._executor,), name="tf", daemon=True)
        self._thread.start()
        self.topic = self._node.resolve_topic_name("/tf")
        self.world_frame = _plain(config.fixed_frame)
        self.frames: FrameLookup | None = self

    def camera_pose(self, stamp_ns: int, optical_frame: str, final: bool) -> CameraPose | None:
        T = self._transform(self.world_frame, optical_frame, stamp_ns, final)
        return None if T is None else CameraPose(T, self.world_frame)

    def why_missing(self, stamp_ns: int, optical_frame: str) -> str:
        if not optical_frame:
            return "header.frame_id of the images is empty"
        return self._reason(self.world_frame, optical_frame, stamp_ns)

    def lookup(self, target_frame: str, source_frame: str, stamp_ns: int | None) -> np.ndarray:
        """T_target_source at a stamp, or the newest; waits for it in the caller's thread. Raises ReferError(TF_ERROR).

        A stamp that is older than everything TF still knows gives the newest transform.
        """
        deadline = time.monotonic() + self._config.tf_timeout
        while True:
            final = time.monotonic() >= deadline
            if stamp_ns is None or self._is_forgotten(target_frame, source_frame, stamp_ns):
                T = self.newest(target_frame, source_frame)
            else:
                T = self._transform(target_frame, source_frame, stamp_ns, final)
            if T is not None:
                return T
            if final:
                when = "at any time" if stamp_ns is None else f"at {stamp_ns / SECOND:.3f} s"
                raise ReferError(
                    ErrorCode.TF_ERROR,
                    f"no transform from {source_frame!r} to {target_frame!r} {when} within "
                    f"{self._config.tf_timeout} s: {self._reason(target_frame, source_frame, stamp_ns or 0)}",
                )
            time.sleep(_POLL)

    def newest(self, target_frame: str, source_frame: str) -> np.ndarray | None:
        """The newest T_target_source, without waiting; None: nothing links the frames (yet)."""
        try:
            return _matrix(self._buffer.lookup_transform(_plain(target_frame), _plain(source_frame), Time()))
        except self._error:
            return None

    def _is_forgotten(self, target: str, source: str, stamp: int) -> bool:
        """Whether a stamp lies further back than transforms are kept."""
        try:
            latest = self._buffer.lookup_transform(_plain(target), _plain(source), Time())
        except self._error:
            return False
        newest = stamp_ns(latest.header.stamp)
        return newest > 0 and stamp < newest - self._config.tf_cache_time * SECOND

    def _transform(self, target: str, source: str, stamp: int, final: bool) -> np.ndarray | None:
        target, source = _plain(target), _plain(source)
        try:
            return _matrix(self._buffer.lookup_transform(target, source, _time(stamp)))
        except self._error:
            if not final:
                return None
        try:
            latest = self._buffer.lookup_transform(target, source, Time())
        except self._error:
            return None
        near = abs(stamp_ns(latest.header.stamp) - stamp) <= self._config.tolerance * SECOND
        return _matrix(latest) if near else None

    def _reason(self, target: str, source: str, stamp: int) -> str:
        possible, reason = self._buffer.can_transform(
            _plain(target), _plain(source), _time(stamp), return_debug_tuple=True
        )
        return "it arrived too late" if possible else str(reason)

    def clear(self) -> None:
        self._buffer.clear()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()


def _plain(frame: str) -> str:
    """tf2 knows no frame with a leading slash; drivers and questions from ROS 1's time have one."""
    return frame.removeprefix("/")


def _time(stamp: int) -> Time:
    """tf2 takes 0 for "the newest", which would give an image without a stamp the pose of another moment."""
    return Time(nanoseconds=max(stamp, 1))


def _matrix(transform: TransformStamped) -> np.ndarray:
    """4x4 T_target_source."""
    t, q = transform.transform.translation, transform.transform.rotation
    return from_quaternion((q.x, q.y, q.z, q.w), (t.x, t.y, t.z))
