"""The simulated robot as a ROS 2 node: messages in and out, and /clock. What it is and does is ``Simulation``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import simplejpeg
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import OccupancyGrid, Odometry
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.geometry.pose import from_quaternion
from roboref_core.scene import EncodedImage
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan
from std_msgs.msg import String, UInt32

from sim.bags.recorder_messages import T_LINK_OPTICAL, Frames, Messages
from sim.robot.drive import Velocity
from sim.robot.navigator import Goal, NoWay
from sim.robot.obstacles import CELL
from sim.robot.room_changes import KINDS, parse_change
from sim.robot.schedule import Schedule
from sim.robot.simulation import FIRST_STAMP_NS, SCAN_HEIGHT, Observation, Simulation

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # not among the wheels
    TFMessage = None

_MAP, _ODOM, _BASE, _SCAN, _OPTICAL = "map", "odom", "base_link", "base_scan", "camera_color_optical_frame"
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Two static transforms, one a message.
_STATIC = QoSProfile(depth=2, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Of the laser scanner: rays, and its nearest and farthest measurement [m].
_RAYS, _SCAN_RANGE = 360, (0.05, 12.0)
_JPEG_QUALITY = 90


class RobotNode:
    """Publishes a simulation and takes commands for it.

    In: /cmd_vel and /cmd_vel_stamped, /goal_pose (PoseStamped in map or odom), /room/change (String, the JSON of
    ``parse_change``). Out: /camera/{color,depth}/{image_raw,camera_info}, /camera_pose (PoseStamped of the optical
    frame, in map or odom), /odom, /ground_truth/pose (PoseStamped of the base in map, always exact), /scan (LaserScan,
    exact), /map (OccupancyGrid of the true room, latched), /room/objects and /room/kinds (what can be brought; String,
    JSON, latched), /room/answer (String, JSON: a change that came and why it was refused, "" if it was not),
    /collisions (UInt32, how many so far), /tf and /tf_static where tf2_msgs is, and /clock.

    The frame "map" is the room's: its corner is the origin, its walls are along the axes. Commands take effect between
    frames, in the order in which they came.

    Args:
        node: a node that spins in another thread.
        pose: /camera_pose is exact in map, or what odometry says, in odom.
        color: raw images, or JPEG on color/image_raw/compressed.
        velocity: type of /cmd_vel, Twist or TwistStamped; /cmd_vel_stamped is TwistStamped always.
        schedule: changes of the room by the clock.
    """

    def __init__(
        self,
        node: Node,
        simulation: Simulation,
        *,
        pose: Literal["exact", "odometry"] = "exact",
        color: Literal["raw", "compressed"] = "raw",
        velocity: Literal["twist", "stamped"] = "twist",
        schedule: Schedule | None = None,
    ):
        self.simulation = simulation
        self._node, self._pose, self._color = node, pose, color
        self._schedule = schedule
        self._lock = threading.Lock()
        self._commands: list[Callable[[], None]] = []
        self._T_map_odom = simulation.state.T_room_base
        self._in_map = Messages(Frames(_MAP, _BASE, _OPTICAL))
        self._in_odom = Messages(Frames(_ODOM, _BASE, _OPTICAL))
        self._publishers: dict[str, Publisher] = {}
        for topic, kind, qos in self._topics():
            self._publishers[topic] = node.create_publisher(kind, topic, qos)
        stamped = velocity == "stamped"
        on_velocity = self._on_stamped_velocity if stamped else self._on_velocity
        node.create_subscription(TwistStamped if stamped else Twist, "/cmd_vel", on_velocity, 10)
        node.create_subscription(TwistStamped, "/cmd_vel_stamped", self._on_stamped_velocity, 10)
        node.create_subscription(PoseStamped, "/goal_pose", self._on_goal, 10)
        node.create_subscription(String, "/room/change", self._on_change, 10)
        if "/tf_static" in self._publishers:
            T = simulation.T_base_camera
            self._send("/tf_static", self._in_map.transform(simulation.stamp_ns, _BASE, _OPTICAL, T))
            T_base_scan = from_quaternion((0, 0, 0, 1), (0, 0, SCAN_HEIGHT))
            self._send("/tf_static", self._in_map.transform(simulation.stamp_ns, _BASE, _SCAN, T_base_scan))
        self._publishers["/room/kinds"].publish(String(data=json.dumps(sorted(KINDS))))
        self._publish_room()

    def step(self) -> Observation:
        """Take the commands that came, go on by one frame and publish it."""
        with self._lock:
            commands, self._commands = self._commands, []
        if self._schedule is not None:
            changes = self._schedule.due((self.simulation.stamp_ns - FIRST_STAMP_NS) / 1e9)
            commands = [*(partial(self._change, change) for change in changes), *commands]
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
            T_map_odom = self.simulation.T_room_odom if self._pose == "exact" else self._T_map_odom
            self._send("/tf", odom.transform(stamp, _MAP, _ODOM, T_map_odom))
        exact = self._pose == "exact"
        self._send(
            "/camera_pose",
            map_.camera_pose(stamp, seen.T_room_camera) if exact else odom.camera_pose(stamp, T_odom_camera),
        )
        self._send("/ground_truth/pose", map_.camera_pose(stamp, seen.T_room_base))
        info = map_.camera_info(stamp, self.simulation.camera)
        self._send("/camera/color/camera_info", info)
        self._send("/camera/depth/camera_info", info)
        if self._color == "raw":
            self._send("/camera/color/image_raw", map_.image(stamp, seen.color))
        else:
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(seen.color), quality=_JPEG_QUALITY, colorspace="RGB")
            self._send("/camera/color/image_raw/compressed", map_.compressed(stamp, EncodedImage(jpeg, "jpeg")))
        self._send("/camera/depth/image_raw", map_.image(stamp, seen.depth_mm))
        self._publishers["/scan"].publish(self._scan(clock))
        self._publishers["/collisions"].publish(UInt32(data=self.simulation.collisions))

    def _scan(self, clock: Clock) -> LaserScan:
        scan = LaserScan(angle_min=-np.pi, angle_max=np.pi - 2 * np.pi / _RAYS, angle_increment=2 * np.pi / _RAYS)
        scan.header.stamp, scan.header.frame_id = clock.clock, _SCAN
        scan.range_min, scan.range_max = _SCAN_RANGE
        scan.scan_time = 1.0 / self.simulation.config.rate
        scan.ranges = self.simulation.scan(scan.angle_min + scan.angle_increment * np.arange(_RAYS)).tolist()
        return scan

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
            ("/ground_truth/pose", PoseStamped, normal),
            ("/camera/color/camera_info", CameraInfo, normal),
            ("/camera/depth/camera_info", CameraInfo, normal),
            (color, CompressedImage if compressed else Image, normal),
            ("/camera/depth/image_raw", Image, normal),
            ("/scan", LaserScan, normal),
            ("/map", OccupancyGrid, _LATCHED),
            ("/room/objects", String, _LATCHED),
            ("/room/kinds", String, _LATCHED),
            ("/room/answer", String, normal),
            ("/collisions", UInt32, normal),
        ]
        if TFMessage is not None:
            topics += [("/tf", TFMessage, normal), ("/tf_static", TFMessage, _STATIC)]
        return topics

    def _later(self, command: Callable[[], None]) -> None:
        with self._lock:
            self._commands.append(command)

    def _on_velocity(self, twist: Twist) -> None:
        linear, angular = twist.linear, twist.angular
        velocity = Velocity(linear.x, linear.y, linear.z, angular.z, -angular.y)
        self._later(lambda: self.simulation.command(velocity))

    def _on_goal(self, goal: PoseStamped) -> None:
        frame = goal.header.frame_id or _MAP
        if frame not in (_MAP, _ODOM):
            self._node.get_logger().error(f"/goal_pose: expected a pose in {_MAP!r} or {_ODOM!r}, found {frame!r}")
            return
        q, p = goal.pose.orientation, goal.pose.position
        self._later(lambda: self._go_to(frame, (p.x, p.y), (q.x, q.y, q.z, q.w)))

    def _go_to(self, frame: str, place: tuple[float, float], xyzw: tuple[float, float, float, float]) -> None:
        turned = any(xyzw)
        T = from_quaternion(xyzw if turned else (0, 0, 0, 1), (*place, 0.0))
        if frame == _ODOM:
            # It is where the robot believes it to be, from where it stands now.
            T = self.simulation.T_room_odom @ T
        x, y = T[:2, 3].tolist()
        self.simulation.go_to(Goal(x, y, float(np.arctan2(T[1, 0], T[0, 0])) if turned else None))

    def _on_stamped_velocity(self, stamped: TwistStamped) -> None:
        self._on_velocity(stamped.twist)

    def _on_change(self, change: String) -> None:
        self._later(lambda: self._change(change.data))

    def _change(self, change: str | dict[str, Any]) -> None:
        refused = ""
        try:
            self.simulation.change(parse_change(change) if isinstance(change, str) else change)
            self._publish_room()
        except ValueError as error:
            refused = str(error)
            raise
        finally:
            answer = json.dumps({"change": change, "refused": refused})
            self._publishers["/room/answer"].publish(String(data=answer))
