"""The simulated robot as a ROS 2 node: messages in and out, and /clock. What it is and does is ``Simulation``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import simplejpeg
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import OccupancyGrid, Odometry
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.geometry.pose import from_quaternion, inverse
from roboref_core.scene import EncodedImage
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String, UInt32

from sim.bags.recorder_messages import T_LINK_OPTICAL, Frames, Messages
from sim.robot.drive import Velocity
from sim.robot.navigator import Goal, NoWay
from sim.robot.obstacles import CELL
from sim.robot.room_changes import parse_change
from sim.robot.simulation import Observation, Simulation

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # not among the wheels
    TFMessage = None

_MAP, _ODOM, _BASE, _OPTICAL = "map", "odom", "base_link", "camera_color_optical_frame"
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_JPEG_QUALITY = 90


class RobotNode:
    """Publishes a simulation and takes commands for it.

    In: /cmd_vel (Twist), /cmd_vel_stamped (TwistStamped), /goal_pose (PoseStamped in map), /room/change (String, the
    JSON of ``parse_change``). Out: /camera/{color,depth}/{image_raw,camera_info}, /camera_pose (PoseStamped of the
    optical frame, in map or odom), /odom, /map (OccupancyGrid of the true room, latched), /room/objects (String,
    JSON, latched), /collisions (UInt32, how many so far), /tf and /tf_static where tf2_msgs is, and /clock.

    The frame "map" is the room's: its corner is the origin, its walls are along the axes. Commands take effect between
    frames, in the order in which they came.

    Args:
        node: a node that spins in another thread.
        pose: /camera_pose is exact in map, or what odometry says, in odom.
        color: raw images, or JPEG on color/image_raw/compressed.
    """

    def __init__(
        self,
        node: Node,
        simulation: Simulation,
        *,
        pose: Literal["exact", "odometry"] = "exact",
        color: Literal["raw", "compressed"] = "raw",
    ):
        self.simulation = simulation
        self._node, self._pose, self._color = node, pose, color
        self._lock = threading.Lock()
        self._commands: list[Callable[[], None]] = []
        self._T_map_odom = simulation.state.T_room_base
        self._in_map = Messages(Frames(_MAP, _BASE, _OPTICAL))
        self._in_odom = Messages(Frames(_ODOM, _BASE, _OPTICAL))
        self._publishers: dict[str, Publisher] = {}
        for topic, kind, qos in self._topics():
            self._publishers[topic] = node.create_publisher(kind, topic, qos)
        node.create_subscription(Twist, "/cmd_vel", self._on_velocity, 10)
        node.create_subscription(TwistStamped, "/cmd_vel_stamped", self._on_stamped_velocity, 10)
        node.create_subscription(PoseStamped, "/goal_pose", self._on_goal, 10)
        node.create_subscription(String, "/room/change", self._on_change, 10)
        if "/tf_static" in self._publishers:
            T = simulation.T_base_camera
            self._send("/tf_static", self._in_map.transform(simulation.stamp_ns, _BASE, _OPTICAL, T))
        self._publish_room()

    def step(self) -> Observation:
        """Take the commands that came, go on by one frame and publish it."""
        with self._lock:
            commands, self._commands = self._commands, []
        for command in commands:
            try:
                command()
            except (NoWay, ValueError) as error:
                self._node.get_logger().error(str(error))
        self.simulation.advance()
        seen = self.simulation.observe()
        self._publish(seen)
        return seen

    def run(
        self,
        stopped: Callable[[], bool],
        rate: float | None = 1.0,
        wait_for_taken: Callable[[int], bool] | None = None,
        frames: int | None = None,
    ) -> int:
        """Step until ``stopped`` -> how many frames were made.

        Args:
            rate: simulated seconds per second; None: as fast as it can.
            wait_for_taken: stamp of a view [ns] -> whether the node under test took it, after a while at most. The
                next frame comes when it has; a frame that it did not take is reported in the log.
            frames: stop after so many.
        """
        due, count = time.monotonic(), 0
        while not stopped() and (frames is None or count < frames):
            seen = self.step()
            count += 1
            if wait_for_taken is not None:
                if not wait_for_taken(seen.stamp_ns):
                    self._node.get_logger().warning(f"the view of {seen.stamp_ns / 1e9:.3f} s was not taken")
            elif rate is not None:
                # A frame that took too long delays the later ones; they are not made up for.
                due = max(due + 1.0 / self.simulation.config.rate / rate, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
        return count

    def _publish(self, seen: Observation) -> None:
        stamp, odom, map_ = seen.stamp_ns, self._in_odom, self._in_map
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(stamp, 10**9)
        self._publishers["/clock"].publish(clock)
        # Poses first, so that they are there when the images arrive.
        T_odom_camera = seen.T_odom_base @ self.simulation.T_base_camera
        self._send("/odom", odom.odometry(stamp, seen.T_odom_base @ T_LINK_OPTICAL, 0.05, 0.05))
        if "/tf" in self._publishers:
            self._send("/tf", odom.transform(stamp, _ODOM, _BASE, seen.T_odom_base))
            T_map_odom = seen.T_room_base @ inverse(seen.T_odom_base) if self._pose == "exact" else self._T_map_odom
            self._send("/tf", odom.transform(stamp, _MAP, _ODOM, T_map_odom))
        exact = self._pose == "exact"
        self._send(
            "/camera_pose",
            map_.camera_pose(stamp, seen.T_room_camera) if exact else odom.camera_pose(stamp, T_odom_camera),
        )
        info = map_.camera_info(stamp, self.simulation.camera)
        self._send("/camera/color/camera_info", info)
        self._send("/camera/depth/camera_info", info)
        if self._color == "raw":
            self._send("/camera/color/image_raw", map_.image(stamp, seen.color))
        else:
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(seen.color), quality=_JPEG_QUALITY, colorspace="RGB")
            self._send("/camera/color/image_raw/compressed", map_.compressed(stamp, EncodedImage(jpeg, "jpeg")))
        self._send("/camera/depth/image_raw", map_.image(stamp, seen.depth_mm))
        self._publishers["/collisions"].publish(UInt32(data=self.simulation.collisions))

    def _publish_room(self) -> None:
        self._send("/map", self._in_map.occupancy_grid(self.simulation.stamp_ns, self.simulation.occupied(), CELL))
        self._publishers["/room/objects"].publish(String(data=json.dumps(self.simulation.objects())))

    def _send(self, topic: str, cdr: memoryview) -> None:
        self._publishers[topic].publish(bytes(cdr))

    def _topics(self) -> list[tuple[str, Any, QoSProfile]]:
        compressed = self._color == "compressed"
        color = "/camera/color/image_raw" + ("/compressed" if compressed else "")
        normal = QoSProfile(depth=10)
        topics: list[tuple[str, Any, QoSProfile]] = [
            ("/clock", Clock, normal),
            ("/odom", Odometry, normal),
            ("/camera_pose", PoseStamped, normal),
            ("/camera/color/camera_info", CameraInfo, normal),
            ("/camera/depth/camera_info", CameraInfo, normal),
            (color, CompressedImage if compressed else Image, normal),
            ("/camera/depth/image_raw", Image, normal),
            ("/map", OccupancyGrid, _LATCHED),
            ("/room/objects", String, _LATCHED),
            ("/collisions", UInt32, normal),
        ]
        if TFMessage is not None:
            topics += [("/tf", TFMessage, normal), ("/tf_static", TFMessage, _LATCHED)]
        return topics

    def _later(self, command: Callable[[], None]) -> None:
        with self._lock:
            self._commands.append(command)

    def _on_velocity(self, twist: Twist) -> None:
        linear, angular = twist.linear, twist.angular
        velocity = Velocity(linear.x, linear.y, linear.z, angular.z, -angular.y)
        self._later(lambda: self.simulation.command(velocity))

    def _on_goal(self, goal: PoseStamped) -> None:
        if goal.header.frame_id not in (_MAP, ""):
            self._node.get_logger().error(f"/goal_pose: expected a pose in {_MAP!r}, found {goal.header.frame_id!r}")
            return
        q, p = goal.pose.orientation, goal.pose.position
        yaw = None
        if any((q.x, q.y, q.z, q.w)):
            T = from_quaternion((q.x, q.y, q.z, q.w))
            yaw = float(np.arctan2(T[1, 0], T[0, 0]))
        self._later(lambda: self.simulation.go_to(Goal(p.x, p.y, yaw)))

    def _on_stamped_velocity(self, stamped: TwistStamped) -> None:
        self._on_velocity(stamped.twist)

    def _on_change(self, change: String) -> None:
        self._later(lambda: self._change(change.data))

    def _change(self, text: str) -> None:
        self.simulation.change(parse_change(text))
        self._publish_room()
