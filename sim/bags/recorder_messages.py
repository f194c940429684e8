"""The ROS 2 messages of one recorded view, serialised to CDR without ROS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, pose, to_quaternion
from roboref_core.scene import EncodedImage
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

# REP-103: a body frame has x forward, y left, z up; an optical frame z forward, x right, y down.
T_LINK_OPTICAL = pose(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), (0, 0, 0))
# compressedDepth (compressed_depth_image_transport): an enum and two floats for 32FC1, zero for 16UC1, before the PNG.
_COMPRESSED_DEPTH_HEADER = bytes(12)
# Velocity is not measured: a variance that no filter will trust.
_UNKNOWN_VARIANCE = 1e6


@cache
def typestore() -> Typestore:
    """Message types of ROS 2 Jazzy."""
    return get_typestore(Stores.ROS2_JAZZY)


@dataclass(frozen=True)
class Frames:
    """Names of coordinate frames.

    Attributes:
        world: fixed frame.
        link: the camera's body, which moves in the world: x forward, y left, z up (REP-103).
        optical: fixed to the link: z forward, x right, y down.
    """

    world: str = "map"
    link: str = "camera_link"
    optical: str = "camera_color_optical_frame"


class Messages:
    """Builds and serialises messages; every method returns CDR bytes for a stamp in nanoseconds."""

    def __init__(self, frames: Frames):
        self.frames = frames
        self._types = typestore().types

    def image(self, stamp_ns: int, image: np.ndarray) -> memoryview:
        """sensor_msgs/Image: (H, W, 3) uint8 as rgb8, (H, W) uint16 as 16UC1 (millimetres, REP-118)."""
        encoding, pixel_bytes = ("rgb8", 3) if image.ndim == 3 else ("16UC1", 2)
        height, width = image.shape[:2]
        data = np.ascontiguousarray(image).view(np.uint8).reshape(-1)
        header = self._header(stamp_ns, self.frames.optical)
        return self._cdr(
            "sensor_msgs/msg/Image",
            header=header,
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=width * pixel_bytes,
            data=data,
        )

    def compressed(self, stamp_ns: int, image: EncodedImage) -> memoryview:
        """sensor_msgs/CompressedImage of an image file's bytes."""
        return self._compressed(stamp_ns, image.format, image.data)

    def compressed_depth(self, stamp_ns: int, millimetres: np.ndarray) -> memoryview:
        """sensor_msgs/CompressedImage as compressed_depth_image_transport writes 16UC1."""
        ok, png = cv2.imencode(".png", millimetres, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert ok, "a uint16 array always encodes"
        return self._compressed(stamp_ns, "16UC1; compressedDepth png", _COMPRESSED_DEPTH_HEADER + png.tobytes())

    def camera_info(self, stamp_ns: int, camera: Camera) -> memoryview:
        """sensor_msgs/CameraInfo of an unrectified monocular image."""
        model, distortion = camera.distortion_model, list(camera.distortion)
        if model in ("none", "plumb_bob"):
            model, distortion = "plumb_bob", distortion + [0.0] * (5 - len(distortion))
        K = camera.matrix
        P = np.zeros((3, 4))
        P[:, :3] = K
        roi = self._types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        return self._cdr(
            "sensor_msgs/msg/CameraInfo",
            header=self._header(stamp_ns, self.frames.optical),
            height=camera.height,
            width=camera.width,
            distortion_model=model,
            d=np.array(distortion),
            k=K.reshape(-1),
            r=np.eye(3).reshape(-1),
            p=P.reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )

    def tf(self, stamp_ns: int, T_world_optical: np.ndarray) -> memoryview:
        """tf2_msgs/TFMessage world -> link."""
        T_world_link = T_world_optical @ inverse(T_LINK_OPTICAL)
        return self.transform(stamp_ns, self.frames.world, self.frames.link, T_world_link)

    def tf_static(self, stamp_ns: int) -> memoryview:
        """tf2_msgs/TFMessage link -> optical."""
        return self.transform(stamp_ns, self.frames.link, self.frames.optical, T_LINK_OPTICAL)

    def camera_pose(self, stamp_ns: int, T_world_optical: np.ndarray) -> memoryview:
        """geometry_msgs/PoseStamped of the optical frame in the world."""
        header = self._header(stamp_ns, self.frames.world)
        return self._cdr("geometry_msgs/msg/PoseStamped", header=header, pose=self._pose(T_world_optical))

    def odometry(
        self, stamp_ns: int, T_world_optical: np.ndarray, sigma_translation: float, sigma_rotation: float
    ) -> memoryview:
        """nav_msgs/Odometry of the link in the world; no velocity.

        Args:
            sigma_translation, sigma_rotation: standard deviation of the pose [m], [rad].
        """
        t = self._types
        pose_covariance = np.diag([sigma_translation**2] * 3 + [sigma_rotation**2] * 3)
        zero = t["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
        twist = t["geometry_msgs/msg/Twist"](zero, zero)
        return self._cdr(
            "nav_msgs/msg/Odometry",
            header=self._header(stamp_ns, self.frames.world),
            child_frame_id=self.frames.link,
            pose=t["geometry_msgs/msg/PoseWithCovariance"](
                self._pose(T_world_optical @ inverse(T_LINK_OPTICAL)), pose_covariance.reshape(-1)
            ),
            twist=t["geometry_msgs/msg/TwistWithCovariance"](twist, (_UNKNOWN_VARIANCE * np.eye(6)).reshape(-1)),
        )

    def occupancy_grid(self, stamp_ns: int, occupied: np.ndarray, cell: float) -> memoryview:
        """nav_msgs/OccupancyGrid in the world, its corner at the origin.

        Args:
            occupied: (X, Y) bool.
            cell: edge of a cell [m].
        """
        t = self._types
        sec, nanosec = divmod(int(stamp_ns), 10**9)
        now = t["builtin_interfaces/msg/Time"](sec, nanosec)
        width, height = occupied.shape
        info = t["nav_msgs/msg/MapMetaData"](now, float(cell), width, height, self._pose(np.eye(4)))
        data = np.where(occupied.T, 100, 0).astype(np.int8).reshape(-1)
        header = self._header(stamp_ns, self.frames.world)
        return self._cdr("nav_msgs/msg/OccupancyGrid", header=header, info=info, data=data)

    def _compressed(self, stamp_ns: int, format_name: str, data: bytes) -> memoryview:
        return self._cdr(
            "sensor_msgs/msg/CompressedImage",
            header=self._header(stamp_ns, self.frames.optical),
            format=format_name,
            data=np.frombuffer(data, np.uint8),
        )

    def transform(self, stamp_ns: int, parent: str, child: str, T_parent_child: np.ndarray) -> memoryview:
        """tf2_msgs/TFMessage of one transform parent -> child."""
        t = self._types
        x, y, z, w = map(float, to_quaternion(T_parent_child))
        transform = t["geometry_msgs/msg/Transform"](
            t["geometry_msgs/msg/Vector3"](*map(float, T_parent_child[:3, 3])),
            t["geometry_msgs/msg/Quaternion"](x, y, z, w),
        )
        stamped = t["geometry_msgs/msg/TransformStamped"](self._header(stamp_ns, parent), child, transform)
        return self._cdr("tf2_msgs/msg/TFMessage", transforms=[stamped])

    def _pose(self, T: np.ndarray) -> Any:
        t = self._types
        return t["geometry_msgs/msg/Pose"](
            t["geometry_msgs/msg/Point"](*map(float, T[:3, 3])),
            t["geometry_msgs/msg/Quaternion"](*map(float, to_quaternion(T))),
        )

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        sec, nanosec = divmod(int(stamp_ns), 10**9)
        stamp = self._types["builtin_interfaces/msg/Time"](sec, nanosec)
        return self._types["std_msgs/msg/Header"](stamp, frame_id)

    def _cdr(self, name: str, **fields) -> memoryview:
        return typestore().serialize_cdr(self._types[name](**fields), name)
