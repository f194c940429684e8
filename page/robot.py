"""The node as the page sees it: live pictures, reference views, answers. Runs its own executor in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import rclpy
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from roboref_core.approach import OccupancyMap, approach
from roboref_core.geometry.camera import Camera
from roboref_core.referring.query import Query
from roboref_msgs.msg import ReferAnswer, ReferenceView
from roboref_msgs.srv import CaptureView, GetView, ListViews, ReferPoint
from roboref_ros.conversions import camera_from_info, pose_from_message, query_to_message, stamp_ns
from roboref_ros.go_to import base_of, occupancy_map
from roboref_ros.goals import goals_for
from roboref_ros.image_conversion import color_from_message, depth_from_message
from sensor_msgs.msg import CompressedImage, Image

from page.pictures import depth_colours, jpeg
from page.simulated_room import SimulatedRoom

# Pictures of views that are kept for the browser.
_CACHED_VIEWS = 64
# Distance to stop before a target, radius of the robot, and how near to its standing place it is there [m].
_STAND_OFF, _ROBOT_RADIUS, _ARRIVED = 0.8, 0.25, 0.25
# The way that was driven: distance between its points [m], and how many are kept.
_WAY_STEP, _WAY_POINTS = 0.05, 2000


@dataclass(frozen=True)
class Picture:
    """A JPEG with its number, which grows with every new one."""

    number: int
    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class ViewSummary:
    """What the list of views says of one.

    Attributes:
        stamp: when it was captured [s].
        camera: intrinsics of its colour picture.
        T_world_camera: 4x4 in ``frame``; None without a pose.
    """

    view_id: str
    stamp: float
    camera: Camera
    T_world_camera: np.ndarray | None
    frame: str
    pinned: bool


@dataclass(frozen=True, eq=False)
class ViewPictures:
    """A view with (H, W, 3) uint8 RGB colour and (h, w) float32 depth [m], or None."""

    summary: ViewSummary
    color: np.ndarray
    depth: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Errand:
    """Where the robot was sent.

    Attributes:
        target: (3,) place that it shall stand before [m].
        standing: (2,) place where it shall stand [m].
        frame: frame of both.
    """

    target: np.ndarray
    standing: np.ndarray
    frame: str


class ReadOnly(ValueError):
    """The page may look only. The text says what it was asked to do."""


class Robot:
    """A client of the node.

    Attributes:
        room: the simulated room, if that is what it is.
        live: newest pictures, "color" and "depth".
        way: where the robot's base was, (2,) places [m] in the frame of the node's camera poses.

    Args:
        node_name: name of the node, for example "/roboref".
        color_topic, depth_topic: raw or compressed images to show live.
        rate: most live pictures a second that are made for the browser.
        read_only: questions, captured views, goals, stop and changes of a simulated room raise ReadOnly.
    """

    def __init__(self, node_name: str, color_topic: str, depth_topic: str, rate: float, read_only: bool = False):
        rclpy.init(args=[])
        self._node = rclpy.create_node("roboref_page")
        self.read_only = read_only
        self.room = SimulatedRoom(self._node)
        self._period = 1.0 / rate
        self._made: dict[str, float] = {}
        self.live: dict[str, Picture] = {}
        self._pictures: OrderedDict[str, ViewPictures] = OrderedDict()
        for name, topic in (("color", color_topic), ("depth", depth_topic)):
            # The names that image_transport gives its compressed topics.
            kind = CompressedImage if topic.rpartition("/")[2] in ("compressed", "compressedDepth") else Image
            self._node.create_subscription(kind, topic, partial(self._show, name), qos_profile_sensor_data)
        self._refer = self._node.create_client(ReferPoint, f"{node_name}/refer_point")
        self._list = self._node.create_client(ListViews, f"{node_name}/list_views")
        self._get = self._node.create_client(GetView, f"{node_name}/get_view")
        self._capture = self._node.create_client(CaptureView, f"{node_name}/capture_view")
        self._goals = goals_for(self._node, _wait)
        self._errand: Errand | None = None
        self._base: tuple[np.ndarray, str] | None = None
        self.way: list[np.ndarray] = []
        self._map: tuple[OccupancyMap, str] | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._node.create_subscription(ReferenceView, f"{node_name}/view", self._on_view, latched)
        self._node.create_subscription(OccupancyGrid, "/map", self._on_map, latched)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="page-ros", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.try_shutdown()

    @property
    def connected(self) -> bool:
        """Whether the node's service is there."""
        return bool(self._refer.service_is_ready())

    def _show(self, name: str, message: Image | CompressedImage) -> None:
        now = time.monotonic()
        if now - self._made.get(name, 0.0) < self._period:
            return
        self._made[name] = now
        try:
            rgb = color_from_message(message) if name == "color" else depth_colours(depth_from_message(message))
        except ValueError as error:
            self._node.get_logger().warning(f"{name}: {error}", throttle_duration_sec=5.0)
            return
        number = self.live[name].number + 1 if name in self.live else 1
        self.live[name] = Picture(number, jpeg(rgb, 640), rgb.shape[1], rgb.shape[0])

    async def _call(self, client, request, timeout: float):
        """A service's response. Raises TimeoutError naming the service."""
        if not client.service_is_ready():
            raise TimeoutError(f"no {client.srv_name}: does the node run, in the same ROS_DOMAIN_ID?")
        loop = asyncio.get_running_loop()
        done: asyncio.Future = loop.create_future()

        def finish(future) -> None:
            if not done.done():
                done.set_result(future.result())

        pending = client.call_async(request)
        pending.add_done_callback(lambda future: loop.call_soon_threadsafe(finish, future))
        try:
            return await asyncio.wait_for(done, timeout)
        except TimeoutError:
            client.remove_pending_request(pending)
            raise TimeoutError(f"no answer from {client.srv_name} within {timeout:g} s") from None

    def _check(self, deed: str) -> None:
        if self.read_only:
            raise ReadOnly(f"this page is read-only: it does not {deed}")

    async def ask(self, query: Query, timeout: float = 60.0) -> ReferAnswer:
        self._check("ask")
        return (await self._call(self._refer, ReferPoint.Request(query=query_to_message(query)), timeout)).answer

    async def change_room(self, change: dict[str, Any]) -> None:
        """Change a simulated room. Raises ValueError if it was refused, TimeoutError if nothing was heard of it."""
        self._check("change the room")
        await self.room.change(change)

    async def views(self) -> list[ViewSummary]:
        """Buffered views, oldest first."""
        response = await self._call(self._list, ListViews.Request(), 5.0)
        return sorted((summary(view) for view in response.views), key=lambda view: view.stamp)

    async def pictures(self, view_id: str) -> ViewPictures:
        """A view with its pictures. Raises ValueError if the node no longer has it."""
        if view_id in self._pictures:
            self._pictures.move_to_end(view_id)
            return self._pictures[view_id]
        response = await self._call(self._get, GetView.Request(view_id=view_id, include_depth=True), 10.0)
        if not response.success:
            raise ValueError(response.message)
        color = color_from_message(response.color)
        depth = None
        if len(response.depth.data):
            depth = cv2.imdecode(np.frombuffer(response.depth.data, np.uint8), cv2.IMREAD_UNCHANGED)
            if depth is None:
                raise ValueError(f"depth of view {view_id}: expected a PNG, found {response.depth.format!r}")
            depth = depth.astype(np.float32) / 1000.0
        found = ViewPictures(summary(response.view), color, depth)
        self._pictures[found.summary.view_id] = found
        while len(self._pictures) > _CACHED_VIEWS:
            self._pictures.popitem(last=False)
        return found

    async def capture(self) -> ViewSummary:
        """Pin the next view. Raises ValueError if the node cannot."""
        self._check("capture views")
        response = await self._call(self._capture, CaptureView.Request(), 15.0)
        if not response.success:
            raise ValueError(response.message)
        return summary(response.view)

    @property
    def map(self) -> OccupancyMap | None:
        """The newest map, whatever its frame."""
        return self._map[0] if self._map is not None else None

    @property
    def base(self) -> tuple[np.ndarray, str] | None:
        """4x4 pose of the robot's base on the floor and its frame, by the newest view; None if that has no pose."""
        return self._base

    def go(self, target: np.ndarray, covariance: np.ndarray | None, frame: str) -> None:
        """Send a goal that faces a target (3,) [m] in ``frame``. Raises ValueError if there is no place to stand."""
        self._check("send the robot")
        base = self._base_in(frame)
        grid = self._map[0] if self._map is not None and self._map[1] == frame else None
        found = approach(target, covariance, base[:2, 3], _STAND_OFF, _ROBOT_RADIUS, grid)
        if found.T_map_base is None:
            raise ValueError(found.failure.value if found.failure else "no place to stand")
        self._goals.send(found.T_map_base, frame)
        self._errand = Errand(target, found.T_map_base[:2, 3], frame)

    def stop(self) -> None:
        """Take the goal back; one that others have sent is replaced by where the robot stands.

        Raises ValueError if that is needed and not known.
        """
        self._check("stop the robot")
        errand, self._errand = self._errand, None
        T, frame = self._base or (None, "")
        if errand is not None:
            self._goals.take_back(T if frame == errand.frame else None, errand.frame)
        elif T is not None:
            self._goals.send(T, frame)
        else:
            raise ValueError("the node's views have no camera pose: where the robot is, is not known")

    def progress(self) -> str:
        """How far the robot is on its way, in words; empty if it was sent nowhere."""
        errand, base = self._errand, self._base
        if errand is None:
            return ""
        if problem := self._goals.problem():
            return problem
        if base is None or base[1] != errand.frame:
            return "on its way; where it is, is not known"
        left, away = (float(np.linalg.norm(base[0][:2, 3] - place[:2])) for place in (errand.standing, errand.target))
        if left <= _ARRIVED:
            return f"there, {away:.2f} m before the target"
        return f"on its way, {left:.1f} m to go"

    def _on_view(self, view: ReferenceView) -> None:
        if not view.has_camera_pose:
            return
        frame = view.camera_pose.header.frame_id
        if self._base is not None and self._base[1] != frame:
            self.way = []
        elif len(self.way) >= _WAY_POINTS:
            self.way = self.way[_WAY_POINTS // 2 :]
        T = base_of(view)
        self._base = T, frame
        if not self.way or np.linalg.norm(T[:2, 3] - self.way[-1]) > _WAY_STEP:
            self.way.append(T[:2, 3].copy())

    def _on_map(self, message: OccupancyGrid) -> None:
        try:
            self._map = occupancy_map(message), message.header.frame_id
        except ValueError as error:
            self._node.get_logger().warning(f"/map: {error}")

    def _base_in(self, frame: str) -> np.ndarray:
        """Where the robot stands, by the newest view's camera pose. Raises ValueError if that is in another frame."""
        if self._base is None:
            raise ValueError("the node's views have no camera pose: where the robot is, is not known")
        T, known = self._base
        if known != frame:
            raise ValueError(f"the robot's place is known in {known!r}, the target's in {frame!r}")
        return T


def _wait(future, seconds: float) -> None:
    """Wait for what the executor's thread completes."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    done.wait(seconds)


def summary(view: ReferenceView) -> ViewSummary:
    T = None
    if view.has_camera_pose:
        T = pose_from_message(view.camera_pose.pose)
    return ViewSummary(
        view.view_id,
        stamp_ns(view.header.stamp) / 1e9,
        camera_from_info(view.camera_info),
        T,
        view.camera_pose.header.frame_id,
        view.pinned,
    )
