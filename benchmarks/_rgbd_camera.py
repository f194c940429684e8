"""A 640x480 RGB-D camera in a process of its own, for the benchmarks: publishes, then prints the stamps it sent.

Run as ``python -m benchmarks._rgbd_camera SECONDS RATE SUBSCRIBERS``; it waits until every topic has so many.
"""

from __future__ import annotations

import array
import json
import subprocess
import sys
import time

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at
from roboref_ros.conversions import camera_to_info, pose_to_message, to_time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

FRAME, WORLD = "camera_color_optical_frame", "map"
CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
# As drivers publish (REP-2003): reliable, so that best-effort and reliable subscribers both match.
DRIVER = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
TOPICS = {
    "color/image_raw": Image,
    "depth/image_raw": Image,
    "color/camera_info": CameraInfo,
    "depth/camera_info": CameraInfo,
    "pose": PoseStamped,
}


def wall(distance: float = 2.0) -> tuple[Image, Image]:
    """Colour and depth of a textured wall, facing the camera."""
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (CAMERA.height, CAMERA.width, 3), dtype=np.uint8)
    depth = np.full((CAMERA.height, CAMERA.width), round(distance * 1000), dtype="<u2")

    def image(pixels: np.ndarray, encoding: str) -> Image:
        data = array.array("B", pixels.tobytes())
        return Image(
            height=CAMERA.height, width=CAMERA.width, encoding=encoding, step=len(data) // CAMERA.height, data=data
        )

    return image(color, "rgb8"), image(depth, "16UC1")


def pose_at(seconds: float) -> np.ndarray:
    """The camera is carried along the wall at up to 0.3 m/s, so that new keyframes are made."""
    x = np.sin(0.3 * seconds)
    return look_at((x, 0.0, 1.2), (x, 2.0, 1.2))


def start(seconds: float, rate: float, subscribers: int = 1) -> subprocess.Popen:
    """The camera's process; ``sent`` waits for it."""
    command = [sys.executable, "-m", "benchmarks._rgbd_camera", str(seconds), str(rate), str(subscribers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def sent(process: subprocess.Popen) -> list[int]:
    """Stamps of the pairs that were published [ns]."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the camera ended with code {process.returncode}")
    return json.loads(output)


def main(seconds: float, rate: float, subscribers: int) -> None:
    # Told to stop early, it just ends.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("camera")
    publishers = {topic: node.create_publisher(kind, topic, DRIVER) for topic, kind in TOPICS.items()}
    deadline = time.monotonic() + 30
    while any(p.get_subscription_count() < subscribers for p in publishers.values()):
        if time.monotonic() > deadline:
            raise SystemExit("camera: nobody subscribes to all topics")
        time.sleep(0.05)
    color, depth = wall()
    stamps = []
    begin = time.monotonic()
    for i in range(round(seconds * rate)):
        time.sleep(max(begin + i / rate - time.monotonic(), 0.0))
        stamps.append(time.time_ns())
        header = Header(stamp=to_time(stamps[-1]), frame_id=FRAME)
        color.header = depth.header = header
        info = camera_to_info(CAMERA, header)
        pose = PoseStamped(header=Header(stamp=header.stamp, frame_id=WORLD), pose=pose_to_message(pose_at(i / rate)))
        for topic, message in zip(TOPICS, (color, depth, info, info, pose), strict=True):
            publishers[topic].publish(message)
    # What is under way still needs its publisher.
    time.sleep(1.0)
    print(json.dumps(stamps))
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
