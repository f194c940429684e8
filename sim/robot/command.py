"""`roboref sim robot`: a robot in a simulated room, as a ROS 2 node."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import rclpy
import tyro
from rclpy.executors import SingleThreadedExecutor
from roboref_core.command_line import ExitStatus

from sim.bags.view_waiter import ViewWaiter
from sim.robot.node import RobotNode
from sim.robot.schedule import Schedule
from sim.robot.simulation import RobotConfig, Simulation
from sim.rooms.rooms import make_scene


@dataclass(frozen=True)
class RobotCommand:
    """Drive a robot with an RGB-D camera through a simulated room, over ROS 2.

    /cmd_vel and /goal_pose steer it; Nav2 may, on the same topics. With --drive.mode flying it is a camera in a hand,
    steered by velocities alone. /room/change takes JSON: {"remove": 7}, {"move": 7, "x": 1, "y": 2},
    {"bring": "chair", "x": 1, "y": 2}, {"walk": 3} (a person walks through), {"light": 0.2}, {"exposure": 0.5},
    {"depth_noise": 3}, {"odometry_noise": 5}; /room/answer says what was refused.

      roboref sim robot --room 7 --pose odometry
    """

    room: int = 7
    """Seed of the room."""
    triangles: int = 100_000
    """About how many triangles the room is drawn with."""
    time: Literal["real", "fast", "stepped"] = "real"
    """Real time, as fast as it can, or the next frame when the node has taken the last one."""
    speed: float = 1.0
    """Real time: simulated seconds per second."""
    pose: Literal["exact", "odometry"] = "exact"
    """/camera_pose: exact in map, or what odometry says, in odom."""
    color: Literal["raw", "compressed"] = "raw"
    """Colour images raw or as JPEG."""
    velocity: Literal["twist", "stamped"] = "twist"
    """Type of /cmd_vel: Twist or TwistStamped; /cmd_vel_stamped is always TwistStamped."""
    changes: Path | None = None
    """A file of changes, one JSON object a line, with "at", when [s]: {"at": 12.5, "remove": 7}."""
    frames: int | None = None
    """Stop after so many frames."""
    view_topic: str = "/roboref/view"
    """Stepped: where the node announces the views it took."""
    view_timeout: float = 5.0
    """Stepped: seconds to wait for that."""
    robot: Annotated[RobotConfig, tyro.conf.arg(name="")] = field(default_factory=RobotConfig)

    def __post_init__(self) -> None:
        if not 0 < self.speed <= 100:
            raise ValueError(f"the speed must be above 0 and at most 100, found {self.speed:g}")

    def __call__(self) -> int:
        schedule = Schedule(self.changes) if self.changes is not None else None
        simulation = Simulation(make_scene(self.room, triangles=self.triangles), self.robot)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        node = rclpy.create_node("roboref_robot")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        spinning = threading.Thread(target=executor.spin, daemon=True)
        spinning.start()
        try:
            robot = RobotNode(
                node, simulation, pose=self.pose, color=self.color, velocity=self.velocity, schedule=schedule
            )
            waiter = ViewWaiter(node, self.view_topic, self.view_timeout) if self.time == "stepped" else None
            rate = None if self.time == "fast" else self.speed
            frames = robot.run(stop.is_set, rate, waiter, self.frames)
        finally:
            executor.shutdown()
            spinning.join()
            node.destroy_node()
            rclpy.shutdown()
        print(f"{frames} frames, {simulation.collisions} collisions")
        return ExitStatus.DONE
