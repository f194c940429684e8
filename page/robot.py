"""The node as the page sees it: live pictures, reference views, answers. Runs its own executor in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from roboref_core.approach import OccupancyMap, approach
from roboref_core.geometry.camera import Camera
from roboref_core.referring.query import Query
from roboref_msgs.msg import ReferAnswer, ReferenceView
from roboref_msgs.srv import CaptureView, GetView, ListViews, ReferPoint
from roboref_ros.conversions import (
    camera_from_info,
    pose_from_message,
    pose_to_message,
    query_to_message,
    stamp_ns,
    to_time,
)
from roboref_ros.go_to import base_of, occupancy_map
from roboref_ros.image_conversion import color_from_message, depth_from_message
from sensor_msgs.msg import CompressedImage, Image

from page.pictures import depth_colours, jpeg

# Pictures of views that are kept for the browser.
_CACHED_VIEWS = 64
# Distance to stop before a target, and radius of the robot [m].
_STAND_OFF, _ROBOT_RADIUS = 0.8, 0.25


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


class Robot:
    """A client of the node.

    Args:
        node_name: of the node, for example "/roboref".
        color_topic, depth_topic: raw or compressed images to show live.
        rate: most live pictures a second that are made for the browser.
    """

    def __init__(self, node_name: str, color_topic: str, depth_topic: str, rate: float):
        rclpy.init(args=[])
        self._node = rclpy.create_node("roboref_page")
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
        self._goal = self._node.create_publisher(PoseStamped, "/goal_pose", 1)
        self._base: tuple[np.ndarray, str] | None = None
        self._map: OccupancyMap | None = None
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

    async def ask(self, query: Query, timeout: float = 60.0) -> ReferAnswer:
        return (await self._call(self._refer, ReferPoint.Request(query=query_to_message(query)), timeout)).answer

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
        response = await self._call(self._capture, CaptureView.Request(), 15.0)
        if not response.success:
            raise ValueError(response.message)
        return summary(response.view)

    def _on_view(self, view: ReferenceView) -> None:
        if view.has_camera_pose:
            self._base = base_of(view), view.camera_pose.header.frame_id

    def _on_map(self, message: OccupancyGrid) -> None:
        try:
            self._map = occupancy_map(message)
        except ValueError as error:
            self._node.get_logger().warning(f"/map: {error}")

    def go(self, target: np.ndarray, covariance: np.ndarray | None, frame: str) -> None:
        """Send a goal that faces a target (3,) [m] in ``frame``. Raises ValueError if there is no place to stand."""
        base = self._base_in(frame)
        found = approach(target, covariance, base[:2, 3], _STAND_OFF, _ROBOT_RADIUS, self._map)
        if found.T_map_base is None:
            raise ValueError(found.failure.value if found.failure else "no place to stand")
        self._send_goal(found.T_map_base, frame)

    def stop(self, frame: str) -> None:
        """Make where the robot stands its goal. Raises ValueError if that is not known."""
        self._send_goal(self._base_in(frame), frame)

    def _base_in(self, frame: str) -> np.ndarray:
        """Where the robot stands, by the newest view's camera pose. Raises ValueError if that is in another frame."""
        if self._base is None:
            raise ValueError("the node's views have no camera pose: where the robot is, is not known")
        T, known = self._base
        if known != frame:
            raise ValueError(f"the robot's place is known in {known!r}, the target's in {frame!r}")
        return T

    def _send_goal(self, T_frame_goal: np.ndarray, frame: str) -> None:
        message = PoseStamped(pose=pose_to_message(T_frame_goal))
        message.header.frame_id = frame
        message.header.stamp = to_time(self._node.get_clock().now().nanoseconds)
        self._goal.publish(message)


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
