"""The same drive over DDS: a simulated robot, the real node, and go_to between them."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from builtin_interfaces.msg import Duration  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from roboref_core.pursuit import End  # noqa: E402
from roboref_core.referring.query import MarkedPoint, Query  # noqa: E402
from roboref_msgs.srv import CaptureView  # noqa: E402
from roboref_ros.go_to import GoTo  # noqa: E402

from offline.data_engine.tasks.ground_truth import ground_truth_pixel  # noqa: E402
from offline.eval.drive.settings import DriveSettings  # noqa: E402
from offline.eval.drive.truth import Place  # noqa: E402
from offline.eval.replay.playing.node_process import NodeProcess  # noqa: E402
from sim.robot.node import RobotNode  # noqa: E402
from sim.robot.obstacles import CELL  # noqa: E402
from sim.robot.simulation import Simulation  # noqa: E402
from sim.rooms.rooms import make_scene  # noqa: E402

SETTINGS = DriveSettings(width=320, triangles=20_000)


def far_start(scene):
    """A thing, and a robot that faces it from as far as the room allows."""
    probe = Simulation(scene, SETTINGS.robot())
    best = None
    for thing in scene.furniture:
        place = Place(scene, thing.object_id, SETTINGS, probe.camera, probe.config.drive.radius)
        if not len(place.viewpoints):
            continue
        for cell in np.argwhere(place.obstacles.free(0.4))[::40]:
            state = place.facing((cell + 0.5) * CELL)
            way = place.way((state.x, state.y))
            if np.isfinite(way) and place.share(state) > 0.005 and (best is None or way > best[0]):
                best = way, place, state
    assert best is not None and best[0] > SETTINGS.start_distance
    return best[1], best[2]


@pytest.mark.slow
def test_go_to_arrives_at_a_marked_thing_with_the_real_node(tmp_path, domain):
    place, start = far_start(make_scene(100, triangles=20_000))
    simulation = Simulation(place.scene, replace(SETTINGS.robot(), start=(start.x, start.y, start.yaw), rate=5.0))
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("robot", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    stop, spinning = threading.Event(), threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    topics = ("color/image_raw", "color/camera_info", "depth/image_raw", "depth/camera_info")
    remaps = {name: f"/camera/{name}" for name in topics} | {"pose": "/camera_pose"}
    with NodeProcess(
        {"use_sim_time": True, "pose.source": "pose", "refer.max_view_age": 20.0}, remaps, tmp_path / "node.log"
    ) as process:
        driving = threading.Thread(target=RobotNode(node, simulation).run, args=(stop.is_set,), daemon=True)
        driving.start()
        try:
            capture = node.create_client(CaptureView, "/roboref/capture_view")
            process.wait_until(capture.service_is_ready, 60.0, "capture_view")
            reply = capture.call(CaptureView.Request(timeout=Duration(sec=60)), timeout_sec=90.0)
            assert reply is not None and reply.success, reply
            mark = ground_truth_pixel(simulation.observe().ids == place.object_id, "mark", margin=3)
            go_to = GoTo(context=context, parameter_overrides=[Parameter("timeout", value=300.0)])
            try:
                marked = MarkedPoint((float(mark[0]), float(mark[1])), reply.view.view_id)
                decision = go_to.run(Query("", regions=(marked,)))
            finally:
                go_to.close()
        finally:
            stop.set()
            driving.join(20)
            executor.shutdown()
            spinning.join(5)
            node.destroy_node()
            context.shutdown()
    assert decision.end is End.ARRIVED, decision.text
    here = np.array((simulation.state.x, simulation.state.y))
    assert place.surface.distance_over_floor(here) <= SETTINGS.success_distance and simulation.collisions == 0
