"""The simulated robot over DDS: it sees, drives to a goal, notices that the room changes, twice the same."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from functools import partial

import numpy as np
import pytest

from sim.robot.simulation import RobotConfig, Simulation
from sim.rooms.rooms import make_scene

rclpy = pytest.importorskip("rclpy")
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped  # noqa: E402
from nav_msgs.msg import OccupancyGrid, Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, LaserScan  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from sim.robot.navigator import Goal, plan  # noqa: E402
from sim.robot.node import RobotNode  # noqa: E402
from sim.robot.obstacles import CELL  # noqa: E402
from sim.robot.schedule import Schedule  # noqa: E402

TOPICS = {
    "/camera/color/image_raw": Image,
    "/camera/depth/image_raw": Image,
    "/camera/color/camera_info": CameraInfo,
    "/camera_pose": PoseStamped,
    "/odom": Odometry,
}
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def stamp_ns(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.fixture
def nodes(domain):
    """A node for the robot and one for its client, each in a DDS participant of its own."""
    contexts, made, executors = [], [], []
    for name in ("robot", "client"):
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        node = rclpy.create_node(name, context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        contexts.append(context)
        made.append(node)
        executors.append((executor, thread))
    yield made
    for (executor, thread), node, context in zip(executors, made, contexts, strict=True):
        executor.shutdown()
        thread.join(5)
        node.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.slow
def test_it_drives_to_a_goal_and_the_room_changes(nodes):
    robot_node, client = nodes
    simulation = Simulation(make_scene(5, triangles=20_000), RobotConfig(width=160, rate=10.0, exact_depth=True))
    robot = RobotNode(robot_node, simulation)
    heard = {topic: [] for topic in TOPICS}
    for topic, kind in TOPICS.items():
        client.create_subscription(kind, topic, heard[topic].append, 50)
    maps, rooms = [], []
    client.create_subscription(OccupancyGrid, "/map", maps.append, LATCHED)
    client.create_subscription(String, "/room/objects", lambda m: rooms.append(json.loads(m.data)), LATCHED)
    goals, changes = (
        client.create_publisher(PoseStamped, "/goal_pose", 10),
        client.create_publisher(String, "/room/change", 10),
    )
    ready = (goals.get_subscription_count, changes.get_subscription_count)
    assert wait_until(lambda: all(count() for count in ready) and maps and rooms)
    assert wait_until(lambda: all(p.get_subscription_count() for t, p in robot._publishers.items() if t in TOPICS))
    time.sleep(0.3)

    grid = maps[0]
    occupied = np.array(grid.data).reshape(grid.info.height, grid.info.width).T > 0
    assert grid.info.resolution == pytest.approx(CELL) and (occupied == simulation.occupied()).all()
    cells = np.argwhere(simulation.obstacles.free(0.4))
    here = np.array((simulation.state.x, simulation.state.y))
    reach = simulation.obstacles.free(simulation.config.drive.radius + 0.12)
    ways = [plan(reach, tuple(here), tuple((cell + 0.5) * CELL), 0.3) for cell in cells[::20]]
    x, y = max((way for way in ways if way is not None), key=len)[-1].tolist()
    goal = PoseStamped()
    goal.header.frame_id = "map"
    goal.pose.position.x, goal.pose.position.y, goal.pose.orientation.w = x, y, 1.0
    goals.publish(goal)
    frames = 0
    assert wait_until(lambda: bool(robot._commands))
    while frames < 600:
        robot.step()
        frames += 1
        if frames > 3 and not simulation.navigator.busy:
            break
    assert np.hypot(simulation.state.x - x, simulation.state.y - y) < 0.1 and simulation.collisions == 0
    assert wait_until(
        lambda: heard["/camera_pose"] and heard["/camera_pose"][-1].header.stamp.sec >= simulation.stamp_ns // 10**9
    )

    gone = rooms[-1][0]["id"]
    changes.publish(String(data=json.dumps({"remove": gone})))
    assert wait_until(lambda: bool(robot._commands))
    robot.step()
    assert wait_until(lambda: gone not in {o["id"] for o in rooms[-1]})
    changes.publish(String(data="no such change"))
    assert wait_until(lambda: bool(robot._commands))
    robot.step()
    last = heard["/camera/depth/image_raw"]
    assert wait_until(
        lambda: last and last[-1].header.stamp.sec * 10**9 + last[-1].header.stamp.nanosec == simulation.stamp_ns
    )
    depth = np.array(last[-1].data, np.uint8).view("<u2").reshape(120, 160)
    assert (depth == simulation.observe().depth_mm).all()
    assert last[-1].header.frame_id == "camera_color_optical_frame"


@pytest.mark.parametrize("velocity", ["twist", "stamped"])
def test_velocities_of_both_types_and_the_scan(nodes, velocity):
    robot_node, client = nodes
    simulation = Simulation(make_scene(5, triangles=20_000), RobotConfig(width=32, rate=10.0, exact_depth=True))
    robot = RobotNode(robot_node, simulation, velocity=velocity)
    scans, truths, answers = [], [], []
    client.create_subscription(LaserScan, "/scan", scans.append, 10)
    client.create_subscription(PoseStamped, "/ground_truth/pose", truths.append, 10)
    client.create_subscription(String, "/room/answer", lambda m: answers.append(json.loads(m.data)), 10)
    turn = TwistStamped()
    turn.twist.angular.z = 1.0
    publishers = {
        "/cmd_vel": client.create_publisher(TwistStamped if velocity == "stamped" else Twist, "/cmd_vel", 10),
        "/cmd_vel_stamped": client.create_publisher(TwistStamped, "/cmd_vel_stamped", 10),
        "/room/change": client.create_publisher(String, "/room/change", 10),
    }
    assert wait_until(lambda: all(p.get_subscription_count() for p in publishers.values()))
    outs = [robot._publishers[topic] for topic in ("/scan", "/ground_truth/pose", "/room/answer")]
    assert wait_until(lambda: all(p.get_subscription_count() for p in outs))
    for topic in ("/cmd_vel", "/cmd_vel_stamped"):
        before = simulation.state.yaw
        stamped = topic == "/cmd_vel_stamped" or velocity == "stamped"
        publishers[topic].publish(turn if stamped else turn.twist)
        assert wait_until(lambda: bool(robot._commands))
        robot.step()
        assert simulation.state.yaw != before, topic
    for change in ('{"remove": 999}', '{"exposure": 0.5}'):
        publishers["/room/change"].publish(String(data=change))
        assert wait_until(lambda: bool(robot._commands))
        robot.step()
    assert wait_until(lambda: len(answers) == 2)
    assert "no object 999" in answers[0]["refused"] and answers[1] == {"change": '{"exposure": 0.5}', "refused": ""}
    assert wait_until(lambda: scans and truths and stamp_ns(scans[-1]) == stamp_ns(truths[-1]) == simulation.stamp_ns)
    scan, place = scans[-1], truths[-1].pose.position
    assert (place.x, place.y) == (simulation.state.x, simulation.state.y) and scan.header.frame_id == "base_scan"
    bearings = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    assert bearings[-1] == pytest.approx(scan.angle_max, abs=1e-5)
    assert scan.ranges == pytest.approx(simulation.scan(bearings), abs=1e-5)


@pytest.mark.slow
def test_stepped_runs_with_one_seed_are_the_same(nodes, tmp_path):
    """The next frame comes when the last was taken, whatever the timing of the one that takes it.

    What is the same is what a client receives over DDS.
    """
    robot_node, client = nodes
    (tmp_path / "changes").write_text('# who comes\n{"at": 0.3, "walk": 2}\n{"at": 0.6, "light": 0.3}\n')

    def note(messages, kind, raw):
        messages[stamp_ns(deserialize_message(raw, kind))] = raw

    def digest(seed: int) -> str:
        simulation = Simulation(make_scene(5, triangles=20_000), RobotConfig(width=64, rate=10.0, seed=seed))
        robot = RobotNode(robot_node, simulation, pose="odometry", schedule=Schedule(tmp_path / "changes"))
        topics = {**TOPICS, "/scan": LaserScan}
        heard = {topic: {} for topic in topics}
        subscriptions = [
            client.create_subscription(kind, topic, partial(note, heard[topic], kind), 50, raw=True)
            for topic, kind in topics.items()
        ]
        assert wait_until(lambda: all(robot._publishers[topic].get_subscription_count() for topic in topics))
        free = np.argwhere(simulation.obstacles.free(0.4))
        x, y = ((free[len(free) // 3] + 0.5) * CELL).tolist()
        robot._later(lambda: simulation.go_to(Goal(x, y)))

        def taken(stamp: int) -> bool:
            return wait_until(lambda: all(stamp in messages for messages in heard.values()))

        assert robot.run(lambda: False, wait_for_taken=taken, frames=12) == 12
        for subscription in subscriptions:
            client.destroy_subscription(subscription)
        for publisher in robot._publishers.values():
            robot_node.destroy_publisher(publisher)
        assert simulation.walker is not None and simulation.scene.lamp == 0.3
        sums = hashlib.sha256()
        for topic in sorted(topics):
            assert len(heard[topic]) == 12
            for stamp in sorted(heard[topic]):
                sums.update(heard[topic][stamp])
        return sums.hexdigest()

    assert digest(3) == digest(3) != digest(4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2"),
        ('{"remove": 3}', 'object with "at"'),
        ('{"at": -1, "remove": 3}', "at least 0"),
        ('{"at": 1, "fly": 3}', "line 2: a change must be"),
    ],
)
def test_a_schedule_that_is_wrong_says_where(tmp_path, line, reason):
    (tmp_path / "changes").write_text("\n" + line)
    with pytest.raises(ValueError, match=reason):
        Schedule(tmp_path / "changes")
