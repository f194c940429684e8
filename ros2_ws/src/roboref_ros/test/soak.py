"""Soak: the node under random faults, its answers checked against ray casting.

    python ros2_ws/src/roboref_ros/test/soak.py --minutes 30 --rate 30 --out soak.json

The camera drives around the room of fake_rgbd and publishes with faults; askers mark points in earlier views.
An answer FOUND is wrong beyond 3 stated standard deviations (of the worst axis) plus 1 cm; a call without an answer
within its time is lost. Exit status 1 if anything was wrong or lost, or the node did not survive.
"""

from __future__ import annotations

import argparse
import collections
import copy
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from fake_rgbd import CAMERA, OPTICAL, WALL_Y, WORLD, FakeCamera, NodeProcess, render
from geometry_msgs.msg import PoseStamped
from roboref_core.geometry.pose import inverse, look_at, pose, transform
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_msgs.msg import ViewRegistration
from roboref_msgs.srv import ListViews
from roboref_ros.clients import ReferClient
from roboref_ros.conversions import pose_to_message, stamp_ns
from sensor_msgs.msg import Image
from std_msgs.msg import Header

OTHER_WORLD = "odom_restarted"
T_OTHER = pose(np.eye(3), (0.5, -0.2, 0.1))
HOUR = 3600 * 10**9
SIGMAS, FLOOR = 3.0, 0.01


def poses() -> list[np.ndarray]:
    """A round of camera poses in front of the wall and the box."""
    angles = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    return [
        look_at((-0.3 + 0.5 * np.cos(a), 0.2 * np.sin(a), 1.2 + 0.1 * np.sin(2 * a)), (0.2, WALL_Y, 1.2))
        for a in angles
    ]


class Faults:
    """Changes what a driver would publish; one kind at a time, for a few frames, at random."""

    KINDS = (
        "stamp +1 h",
        "stamp -1 h",
        "pose +1 h",
        "no depth",
        "no pose",
        "no camera info",
        "camera info of another size",
        "camera info of another frame",
        "depth of another frame",
        "unknown encoding",
        "cut data",
        "depth of zeros",
        "another world frame",
        "silence",
    )

    def __init__(self, seed: int, share: float):
        self._random = random.Random(seed)
        self._share = share
        self._kind, self._left = "", 0
        self.counts: collections.Counter[str] = collections.Counter()

    def apply(self, messages: dict, T: np.ndarray, stamp_of) -> dict:
        if self._left == 0:
            self._kind = ""
            if self._random.random() < self._share:
                self._kind = self._random.choice(self.KINDS)
                single = self._kind.startswith(("stamp", "pose"))
                self._left = 1 if single else self._random.randint(1, 20)
                self.counts[self._kind] += 1
        self._left = max(self._left - 1, 0)
        return self._changed(messages, T, stamp_of) if self._kind else messages

    def _changed(self, messages: dict, T: np.ndarray, stamp_of) -> dict:
        kind = self._kind
        if kind == "silence":
            return {}
        for prefix, names in (("stamp", tuple(messages)), ("pose", ("pose",))):
            if kind.startswith(prefix):
                away = HOUR if "+1 h" in kind else -HOUR
                return {name: stamp_of(messages[name], away) if name in names else messages[name] for name in messages}
        absent = {"no depth": ("depth",), "no pose": ("pose",), "no camera info": ("color_info", "depth_info")}
        if kind in absent:
            return {name: message for name, message in messages.items() if name not in absent[kind]}
        name = {"camera info of another size": "color_info", "camera info of another frame": "color_info"}.get(
            kind, "depth"
        )
        changed = copy.copy(messages[name])
        if kind == "camera info of another size":
            changed.width += 2
        elif kind == "camera info of another frame":
            changed.header = Header(stamp=changed.header.stamp, frame_id="left_camera")
        elif kind == "depth of another frame":
            changed.header = Header(stamp=changed.header.stamp, frame_id="depth_frame")
        elif kind == "unknown encoding":
            changed.encoding = "nonsense"
        elif kind == "cut data":
            changed.data = bytes(changed.data)[:100]
        elif kind == "depth of zeros":
            changed.data = bytes(len(changed.data))
        elif kind == "another world frame":
            name = "pose"
            header = Header(stamp=messages["pose"].header.stamp, frame_id=OTHER_WORLD)
            changed = PoseStamped(header=header, pose=pose_to_message(T_OTHER @ T))
        return messages | {name: changed}


class Driver(threading.Thread):
    """Publishes the round of poses at a rate until it is stopped."""

    def __init__(self, camera: FakeCamera, faults: Faults, rate: float):
        super().__init__(daemon=True)
        self._camera, self._faults, self._rate = camera, faults, rate
        self._rounds = poses()
        self._rendered = [render(T) for T in self._rounds]
        self.stopped = threading.Event()
        self.frames = 0
        self.views: dict[int, int] = {}

    def run(self) -> None:
        ready = [self._camera.messages(T, 0) for T in self._rounds]
        due = time.monotonic()
        while not self.stopped.is_set():
            k = self.frames % len(self._rounds)
            stamp = self._camera.stamp()
            self.views[stamp] = k
            messages = {name: self._stamped(message, stamp) for name, message in ready[k].items()}
            self._camera.publish(self._faults.apply(messages, self._rounds[k], self._shifted))
            self.frames += 1
            due = max(due + 1 / self._rate, time.monotonic() - 1)
            time.sleep(max(due - time.monotonic(), 0))

    def _stamped(self, message, stamp: int):
        changed = copy.copy(message)
        changed.header = self._camera.header(stamp, message.header.frame_id)
        return changed

    def _shifted(self, message, away: int):
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec + away
        return self._stamped(message, stamp)

    def pose_at(self, stamp: int) -> np.ndarray | None:
        """True T_WORLD_camera of the view that bears ``stamp`` [ns], shifted by a fault or not; None: no such view."""
        known = (self.views.get(stamp - away) for away in (0, HOUR, -HOUR))
        return next((self._rounds[k] for k in known if k is not None), None)

    def point(self, k: int, u: int, v: int) -> np.ndarray:
        """The exact place in WORLD that pose k sees at a pixel."""
        ray = CAMERA.rays(np.array([[u, v]]))[0]
        return transform(self._rounds[k], ray * self._rendered[k][1][v, u])


class Asker:
    """Marks a random point of an earlier view and judges the answer."""

    def __init__(self, camera: FakeCamera, driver: Driver, seed: int):
        self._camera, self._driver, self._random = camera, driver, random.Random(seed)
        self._client = ReferClient(camera.node, "/roboref")
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.wrong: list[dict] = []
        self.seconds: list[float] = []
        self.recoveries: list[float] = []
        self._failing_since: float | None = None

    def ask(self) -> None:
        buffered = self._camera.call(ListViews, "list_views").views
        known = [(stamp_ns(view.header.stamp), view) for view in buffered if view.has_camera_pose]
        known = [(stamp, view) for stamp, view in known if stamp in self._driver.views]
        if not known:
            return
        stamp, view = self._random.choice(known)
        u, v = self._random.randrange(8, CAMERA.width - 8), self._random.randrange(8, CAMERA.height - 8)
        truth = self._driver.point(self._driver.views[stamp], u, v)
        query = Query("that", regions=(MarkedPoint((u, v), view.view_id),), search_memory=True, timeout=5.0)
        started = time.monotonic()
        try:
            answer = self._client.refer(query, 15.0)
        except TimeoutError:
            self.outcomes["LOST"] += 1
            return
        self.seconds.append(time.monotonic() - started)
        self._judge(answer, truth, started)

    def _T_frame_world(self, frame: str, stamp: int) -> np.ndarray:
        """4x4 from WORLD into a frame that an answer may be in; NaN, which makes it wrong, for any other."""
        if frame in (WORLD, OTHER_WORLD):
            return T_OTHER if frame == OTHER_WORLD else np.eye(4)
        # A view without a pose is linked by its picture alone: the answer is in its optical frame.
        T_world_camera = self._driver.pose_at(stamp)
        return np.full((4, 4), np.nan) if frame != OPTICAL or T_world_camera is None else inverse(T_world_camera)

    def _judge(self, answer, truth: np.ndarray, started: float) -> None:
        name = Status(answer.status).name
        self.outcomes[name if name != "ERROR" else f"ERROR {answer.error_code}"] += 1
        if name == "ERROR":
            self._failing_since = self._failing_since or started
        elif self._failing_since is not None:
            self.recoveries.append(time.monotonic() - self._failing_since)
            self._failing_since = None
        targets = [*(answer.targets if name == "FOUND" else ()), *(known.target for known in answer.last_known)]
        for target in targets:
            frame = target.header.frame_id
            T = self._T_frame_world(frame, stamp_ns(target.header.stamp))
            found = np.array([target.position.x, target.position.y, target.position.z])
            sigma = float(np.sqrt(np.linalg.eigvalsh(np.reshape(target.position_covariance, (3, 3))).max()))
            error = float(np.linalg.norm(found - transform(T, truth)))
            if not error <= SIGMAS * sigma + FLOOR:
                self.wrong.append(
                    {"error": error, "sigma": sigma, "frame": frame, "status": name} | _how(answer.check.registration)
                )


def _how(registration: ViewRegistration) -> dict:
    """How the mark came into the searched view."""
    fields = ("verdict", "inliers", "agreement", "correction_distance", "without_poses", "via_view_ids")
    return {name: str(getattr(registration, name)) for name in fields}


def memory(pid: int) -> dict[str, int]:
    """[MB], and counts of threads and open files."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "resident MB": int(fields["VmRSS"].split()[0]) // 1024,
        "peak MB": int(fields["VmHWM"].split()[0]) // 1024,
        "threads": int(fields["Threads"]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=30.0, help="of the camera [Hz]")
    parser.add_argument("--faults", type=float, default=0.05, help="share of frames at which a fault begins")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", type=int, default=71)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    log = Path(tempfile.mkdtemp()) / "node.log"
    node = NodeProcess(options.domain, ["-p", "pose.source:=pose", "-p", "pose.timeout:=0.3"], log)
    topics = {name: f"/{name}/image_raw" for name in ("color", "depth")} | {"pose": "/pose"}
    topics |= {f"{name}_info": f"/{name}/camera_info" for name in ("color", "depth")}
    camera = FakeCamera(options.domain, topics, "/roboref", {"color": Image, "depth": Image, "pose": PoseStamped})
    camera.wait_for_node()
    faults = Faults(options.seed, options.faults)
    driver = Driver(camera, faults, options.rate)
    driver.start()
    asker = Asker(camera, driver, options.seed + 1)
    before, end = memory(node.process.pid), time.monotonic() + 60 * options.minutes
    while time.monotonic() < end and node.process.poll() is None:
        asker.ask()
        time.sleep(0.05)
    alive = node.process.poll() is None
    after = memory(node.process.pid) if alive else {}
    driver.stopped.set()
    driver.join()
    camera.close()
    status = node.stop() if alive else node.process.poll()
    seconds = np.array(asker.seconds or [np.nan])
    report = {
        "minutes": options.minutes,
        "frames": driver.frames,
        "faults": dict(faults.counts),
        "asked": sum(asker.outcomes.values()),
        "outcomes": dict(asker.outcomes),
        "wrong": len(asker.wrong),
        "wrong answers": asker.wrong[:20],
        "lost": asker.outcomes["LOST"],
        "answer seconds, median and greatest": [round(float(np.median(seconds)), 3), round(float(seconds.max()), 3)],
        "recovery seconds, median and greatest": [
            round(float(np.median(asker.recoveries or [0])), 3),
            round(float(max(asker.recoveries or [0])), 3),
        ],
        "memory before": before,
        "memory after": after,
        "exit status": status,
        "tracebacks": log.read_text(errors="replace").count("Traceback"),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    good = alive and status == 0 and not asker.wrong and not report["lost"] and not report["tracebacks"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
