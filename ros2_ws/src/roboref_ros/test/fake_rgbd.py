"""An RGB-D camera on real DDS that looks at known geometry, and the node as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import rclpy
from ament_index_python.packages import get_package_prefix
from geometry_msgs.msg import PoseStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at, transform
from roboref_msgs.msg import ReferenceView
from roboref_msgs.srv import GetView
from roboref_ros.clients import ReferClient
from roboref_ros.conversions import camera_to_info, pose_to_message, stamp_ns, to_time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

OPTICAL = "camera_color_optical_frame"
WORLD = "map"
ROOM = WALL_Y = 3.0
BOX_LOW, BOX_HIGH = np.array([0.4, 1.5, 0.5]), np.array([0.9, 1.8, 1.6])
CAMERA = Camera(320, 240, 260.0, 262.0, 158.5, 121.0)
# Seen by AHEAD and BESIDE, hidden by the box from BEHIND_BOX, out of AWAY's picture.
WALL_POINT = np.array([0.1, WALL_Y, 1.3])
AHEAD = look_at((0.0, 0.0, 1.2), (0.1, WALL_Y, 1.2))
BESIDE = look_at((-0.6, 0.4, 1.4), (0.2, WALL_Y, 1.2))
BEHIND_BOX = look_at((1.0, 0.5, 1.2), (0.4, WALL_Y, 1.2))
AWAY = look_at((0.0, 0.0, 1.2), (0.0, -WALL_Y, 1.2))


def render(T_world_camera: np.ndarray, camera: Camera = CAMERA) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 and exact (H, W) float64 depth [m] of a room from -3 to 3 m with a box in it, by ray casting."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.rays(np.stack([u.ravel(), v.ravel()], axis=1)) @ T_world_camera[:3, :3].T
    rays[rays == 0] = 1e-12
    origin = T_world_camera[:3, 3]
    to_room = np.where(rays > 0, ROOM - origin, -ROOM - origin) / rays
    near, far = np.sort([(BOX_LOW - origin) / rays, (BOX_HIGH - origin) / rays], axis=0)
    enter, leave = near.max(axis=1), far.min(axis=1)
    on_box = (enter < leave) & (enter > 0)
    z = np.where(on_box, enter, to_room.min(axis=1))
    points = origin + rays * z[:, None]
    checks = np.floor(points * 4 + 1e-6).sum(axis=1) % 2
    color = np.where(on_box[:, None], (200, 60, 40), (90, 140, 170)) * (0.6 + 0.4 * checks[:, None])
    shape = (camera.height, camera.width)
    return color.reshape(*shape, 3).astype(np.uint8), z.reshape(shape)


def pixel_of(point: np.ndarray, T_world_camera: np.ndarray, camera: Camera = CAMERA) -> tuple[float, float]:
    """Where a world point is seen."""
    u, v = camera.project(transform(np.linalg.inv(T_world_camera), point))[0]
    return float(u), float(v)


def color_message(color: np.ndarray, header: Header) -> Image:
    h, w = color.shape[:2]
    return Image(header=header, height=h, width=w, encoding="rgb8", step=3 * w, data=color.tobytes())


def depth_message(depth: np.ndarray, header: Header, encoding: str = "16UC1") -> Image:
    """(h, w) metres -> message; NaN becomes 0 in 16UC1."""
    if encoding == "16UC1":
        pixels = np.nan_to_num(depth * 1000).round().astype("<u2")
    else:
        pixels = depth.astype("<f4")
    h, w = depth.shape
    return Image(header=header, height=h, width=w, encoding=encoding, step=pixels.itemsize * w, data=pixels.tobytes())


class FakeCamera:
    """Publishes views of the room and asks questions about them, as a driver and a planner would.

    Args:
        domain: ROS domain, the node's.
        topics: names of color, color_info, depth, depth_info and pose.
        service: name of the node, with its namespace.
        kinds: message types of color, depth and pose.
    """

    def __init__(self, domain: int, topics: dict[str, str], service: str, kinds: dict[str, type]):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("fake_camera", context=self.context)
        self.publishers = {
            name: self.node.create_publisher(kinds.get(name, CameraInfo), topic, QoSProfile(depth=10))
            for name, topic in topics.items()
        }
        self.client = ReferClient(self.node, service)
        self._service = service
        self._clients = {}
        self.views: dict[int, ReferenceView] = {}
        self._arrived = threading.Condition()
        self.node.create_subscription(ReferenceView, f"{service}/view", self._on_view, 10)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self._last_stamp = 0

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_view(self, view: ReferenceView) -> None:
        with self._arrived:
            self.views[stamp_ns(view.header.stamp)] = view
            self._arrived.notify_all()

    def close(self) -> None:
        self.client.close()
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        self.context.shutdown()

    def wait_for_node(self) -> None:
        deadline = time.monotonic() + 30
        while not all(p.get_subscription_count() for p in self.publishers.values()):
            assert time.monotonic() < deadline, "the node's subscriptions did not appear"
            time.sleep(0.05)
        assert self.client.wait(30), "the node does not answer"

    def stamp(self) -> int:
        """Now, and later than all stamps before [ns]."""
        self._last_stamp = max(time.time_ns(), self._last_stamp + 1_000_000)
        return self._last_stamp

    def header(self, stamp: int, frame: str = OPTICAL) -> Header:
        return Header(stamp=to_time(stamp), frame_id=frame)

    def messages(self, T_world_camera, stamp, camera=CAMERA, depth_encoding="16UC1", hole=None) -> dict:
        """What a driver would publish of one view. Args: hole: (row slice, column slice) without depth."""
        header = self.header(stamp)
        color, depth = render(T_world_camera, camera)
        if hole is not None:
            depth[hole] = np.nan
        return {
            "color": color_message(color, header),
            "color_info": camera_to_info(camera, header),
            "depth": depth_message(depth, header, depth_encoding),
            "depth_info": camera_to_info(camera, header),
            "pose": PoseStamped(header=self.header(stamp, WORLD), pose=pose_to_message(T_world_camera)),
        }

    def publish(self, messages: dict) -> None:
        for name, message in messages.items():
            self.publishers[name].publish(message)

    def see(self, T_world_camera, **scene) -> ReferenceView:
        """Publish one view and wait until the node has taken it."""
        stamp = self.stamp()
        return self.wait_for_view(self.messages(T_world_camera, stamp, **scene))

    def see_to_mark(self, T_world_camera, **scene) -> ReferenceView:
        """Publish one view, and look at it."""
        return self.look_at(self.see(T_world_camera, **scene))

    def look_at(self, view: ReferenceView) -> ReferenceView:
        """As an operator who may mark something in it: it is kept. Of views in a row not all are."""
        assert self.call(GetView, "get_view", view_id=view.view_id).success
        return view

    def call(self, kind: type, name: str, **request):
        """Response of one of the node's services; asked again if it is lost (see ReferClient.wait)."""
        for _ in range(10):
            future = self.service(kind, name).call_async(kind.Request(**request))
            done = threading.Event()
            future.add_done_callback(lambda _, done=done: done.set())
            if done.wait(3):
                return future.result()
        raise AssertionError(f"{name} does not answer")

    def service(self, kind: type, name: str):
        """Client of one of the node's services."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"{self._service}/{name}")
            assert self._clients[name].wait_for_service(10)
        return self._clients[name]

    def wait_for_view(self, messages: dict) -> ReferenceView:
        stamp = stamp_ns(messages["color"].header.stamp)
        for _ in range(5):  # Images are best effort: as a camera, we send another.
            self.publish(messages)
            with self._arrived:
                if self._arrived.wait_for(lambda: stamp in self.views, timeout=2):
                    return self.views[stamp]
        raise AssertionError(f"the node did not take the view of {stamp}")

    def eventually(self, ask, wanted, timeout: float = 10.0):
        """Ask until the answer is as wanted: what a refused message changes cannot be waited for otherwise."""
        deadline = time.monotonic() + timeout
        while not wanted(answer := ask()):
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)
        return answer


class NodeProcess:
    """The installed executable, started as a user would."""

    def __init__(self, domain: int, arguments: list[str], log: Path):
        executable = Path(get_package_prefix("roboref_ros")) / "lib" / "roboref_ros" / "roboref_node"
        self.log = log
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "PYTHONUNBUFFERED": "1",
        }
        with open(log, "wb") as out:
            # A session of its own: started from a script's background it would ignore SIGINT.
            self.process = subprocess.Popen(
                [str(executable), "--ros-args", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Exit code, also of a node that has ended before."""
        self.process.send_signal(how)
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()

    def wait_for_log(self, text: str, timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.log.read_text(errors="replace"):
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{self.log.read_text()}"
            time.sleep(0.1)
