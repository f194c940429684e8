"""`roboref sim live`: a robot in a simulated room, the node, and the page in a browser, in one command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from offline.eval.replay.playing.node_process import node_executable, start, stop


@dataclass(frozen=True)
class LiveRoom:
    """Start a robot in a simulated room, the node, and the page; open the printed address, mark, ask, go there.

    Ctrl-C ends them all. Their output is in the folder of --logs.

      roboref sim live --room 7 --backend nano
    """

    room: int = 7
    """Seed of the room."""
    triangles: int = 100_000
    """About how many triangles the room is drawn with; fewer are drawn faster."""
    backend: str = "fused"
    """Model of the node: fused (marks by geometry, words by the bundled model), reprojection (marks alone), ..."""
    port: int = 8090
    """Port of the page, on this machine alone."""
    rate: float = 8.0
    """Camera frames per second."""
    speed: float = 1.0
    """Simulated seconds per second."""
    flying: bool = False
    """A camera in a hand that velocities steer, instead of a robot with wheels."""
    odometry: bool = False
    """The node gets the robot's drifting odometry instead of its true pose."""
    record: Path | None = None
    """Record the run as an MCAP bag in this new folder: everything that is published, two images a second."""
    logs: Path = Path("out/live")
    """Where they write what they print."""

    def __call__(self) -> int:
        """Raises ChildProcessError naming the log of the one that ended by itself."""
        if self.record is not None and self.record.exists():
            raise ValueError(f"{self.record} exists; choose another name")
        self.logs.mkdir(parents=True, exist_ok=True)
        roboref = [sys.executable, "-m", "offline.cli"]
        camera = [
            part
            for stream in ("color", "depth")
            for topic in ("image_raw", "camera_info")
            for part in ("-r", f"{stream}/{topic}:=/camera/{stream}/{topic}")
        ]
        pose = "odometry" if self.odometry else "exact"
        topics = ["--color", "/camera/color/image_raw", "--depth", "/camera/depth/image_raw"]
        mode = "flying" if self.flying else "differential"
        motion = ["--rate", self.rate, "--speed", self.speed, "--drive.mode", mode]
        room = ["--room", self.room, "--triangles", self.triangles]
        commands = {
            "robot": [*roboref, "sim", "robot", *room, *motion, "--pose", pose],
            "node": [
                *(node_executable(), "--ros-args", "-p", "use_sim_time:=true", "-p", "pose.source:=pose"),
                *("-p", f"model.backend:={self.backend}", "-r", "pose:=/camera_pose", *camera),
            ],
            "page": [*roboref, "page", "--port", self.port, *topics],
        }
        if self.record is not None:
            how = ["--use-sim-time", "--image-rate", 2, "--compression", "zstd"]
            commands["recorder"] = [*roboref, "record", self.record, *how]
        running: dict[str, subprocess.Popen[bytes]] = {}
        # However it is ended, they end with it; a shell's background job ignores SIGINT until it is told not to.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        try:
            for name, command in commands.items():
                running[name] = start(command, self.logs / f"{name}.log")
            print(f"http://127.0.0.1:{self.port}/  (Ctrl-C ends it)", flush=True)
            while True:
                for name, process in running.items():
                    if process.poll() is not None:
                        raise ChildProcessError(f"the {name} ended by itself: see {self.logs / name}.log")
                time.sleep(0.5)
        except KeyboardInterrupt:
            return 0
        finally:
            stop(running.values())
