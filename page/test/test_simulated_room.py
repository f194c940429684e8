"""The page as a client of a simulated room over DDS, and what a read-only page does not do."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from roboref_core.approach import OccupancyMap
from roboref_core.referring.query import Query

from page.room_panel import plan_picture, plan_pixel, plan_place
from sim.robot.obstacles import CELL
from sim.robot.simulation import RobotConfig, Simulation
from sim.rooms.rooms import make_scene

rclpy = pytest.importorskip("rclpy")
from rclpy.executors import SingleThreadedExecutor  # noqa: E402

from page.robot import ReadOnly, Robot  # noqa: E402
from sim.robot.node import RobotNode  # noqa: E402


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def room(domain):
    """A simulated robot that steps in a thread."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("robot", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    simulation = Simulation(make_scene(5, triangles=5_000), RobotConfig(width=32, rate=10.0))
    robot, stop = RobotNode(node, simulation), threading.Event()
    threads = [
        threading.Thread(target=executor.spin, daemon=True),
        threading.Thread(target=lambda: robot.run(stop.is_set), daemon=True),
    ]
    for thread in threads:
        thread.start()
    yield simulation
    stop.set()
    threads[1].join(10)
    executor.shutdown()
    threads[0].join(10)
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("read_only", [False, True])
def test_the_room_is_changed_unless_the_page_is_read_only(room, read_only):
    page = Robot("/roboref", "/camera/color/image_raw", "/camera/depth/image_raw", 5.0, read_only)
    try:
        assert wait_until(lambda: page.room.objects and page.room.kinds and page.map is not None)
        assert wait_until(lambda: page.room._changes.get_subscription_count())
        assert "chair" in page.room.kinds and "person" in page.room.kinds
        gone = page.room.objects[0]["id"]
        changes = [{"remove": gone}, {"light": 0.5}, {"walk": 1}, {"depth_noise": 2.0}, {"odometry_noise": 2.0}]
        if read_only:
            for change in changes:
                with pytest.raises(ReadOnly, match="does not change the room"):
                    asyncio.run(page.change_room(change))
            for deed in (page.stop, lambda: page.go(np.zeros(3), None, "map")):
                with pytest.raises(ReadOnly):
                    deed()
            for question in (page.ask(Query("a chair")), page.capture()):
                with pytest.raises(ReadOnly):
                    asyncio.run(question)
            assert gone in room.scene.labels and room.scene.lamp == 1.0 and room.walker is None
        else:
            for change in changes:
                asyncio.run(page.change_room(change))
            assert wait_until(lambda: gone not in {thing["id"] for thing in page.room.objects})
            assert room.scene.lamp == 0.5
            with pytest.raises(ValueError, match=f"no object {gone}"):
                asyncio.run(page.change_room({"remove": gone}))
    finally:
        page.close()


def test_the_plan_lies_as_the_room_does():
    simulation = Simulation(make_scene(5, triangles=5_000), RobotConfig(width=32))
    occupied = simulation.occupied()
    grid = OccupancyMap(np.where(occupied.T, 100, 0).astype(np.int8), CELL, (0.0, 0.0))
    picture = plan_picture(grid)
    for place in np.random.default_rng(0).uniform((0, 0), np.array(occupied.shape) * CELL, (50, 2)):
        u, v = plan_pixel(grid, place)
        assert plan_place(grid, (u, v)) == pytest.approx(tuple(place))
        assert (picture[int(v), int(u)] < 100).all() == occupied[tuple((place / CELL).astype(int))]
