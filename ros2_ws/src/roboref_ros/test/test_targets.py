"""Topics that planners take as they are: the newest FOUND, upright, along the surface's normal, with its covariance."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from fake_rgbd import AHEAD, AWAY, BESIDE, OPTICAL, WALL_POINT, WORLD, pixel_of
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from in_process import spinning
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.geometry.pose import inverse, transform
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_ros.conversions import pose_from_message, stamp_ns
from visualization_msgs.msg import MarkerArray

TOPICS = {
    "target": PoseWithCovarianceStamped,
    "target_pose": PoseStamped,
    "surface_pose": PoseStamped,
    "markers": MarkerArray,
}


@pytest.fixture
def seen(domain):
    """A camera, what it received last on each topic, and how it asks about the point on the wall."""
    with spinning(domain) as (_, camera):
        received = {name: [] for name in TOPICS}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for name, kind in TOPICS.items():
            camera.node.create_subscription(kind, f"/roboref/{name}", received[name].append, latched)
        marked = camera.see_to_mark(AHEAD)

        def ask(T, **fields):
            view = camera.see(T)
            for messages in received.values():
                messages.clear()
            mark = MarkedPoint(pixel_of(WALL_POINT, AHEAD), marked.view_id)
            return view, camera.client.refer(Query("that", regions=(mark,), **fields))

        yield camera, received, ask


def test_the_newest_target_is_upright_faces_away_and_is_grasped_along_the_wall(seen):
    camera, received, ask = seen
    view, answer = ask(BESIDE)
    assert answer.status == Status.FOUND
    camera.eventually(lambda: received, lambda r: all(r.values()))
    target, pose = received["target"][-1], received["target_pose"][-1]
    assert pose.header.frame_id == target.header.frame_id == WORLD
    assert stamp_ns(pose.header.stamp) == stamp_ns(view.header.stamp)
    assert target.pose.pose == pose.pose
    T = pose_from_message(pose.pose)
    np.testing.assert_allclose(T[:3, 3], WALL_POINT, atol=0.001)
    np.testing.assert_allclose(T[:3, 2], (0, 0, 1), atol=1e-9)
    ahead = (WALL_POINT - BESIDE[:3, 3])[:2]
    np.testing.assert_allclose(T[:2, 0], ahead / np.linalg.norm(ahead), atol=1e-3)
    covariance = np.reshape(target.pose.covariance, (6, 6))
    np.testing.assert_allclose(covariance[:3, :3], np.reshape(answer.targets[0].position_covariance, (3, 3)))
    assert np.linalg.eigvalsh(covariance).min() > 0 and 0 < covariance[5, 5] < 0.01
    surface = pose_from_message(received["surface_pose"][-1].pose)
    np.testing.assert_allclose(surface[:3, 2], (0, 1, 0), atol=0.02)
    np.testing.assert_allclose(surface[:3, 3], WALL_POINT, atol=0.001)
    (arrow,) = [marker for marker in received["markers"][-1].markers if marker.ns == "approach"]
    drawn = pose_from_message(arrow.pose)
    np.testing.assert_allclose(transform(drawn, np.array([arrow.scale.x, 0, 0])), WALL_POINT, atol=0.002)


def test_in_the_cameras_frame_up_is_still_up(seen):
    camera, received, ask = seen
    _, answer = ask(BESIDE, target_frame=OPTICAL)
    assert answer.status == Status.FOUND
    camera.eventually(lambda: received, lambda r: r["target_pose"])
    pose = received["target_pose"][-1]
    assert pose.header.frame_id == OPTICAL
    T = BESIDE @ pose_from_message(pose.pose)
    np.testing.assert_allclose(T[:3, 2], (0, 0, 1), atol=1e-6)
    np.testing.assert_allclose(T[:3, 3], WALL_POINT, atol=0.001)
    assert np.isfinite(inverse(T)).all()


def test_what_is_not_found_is_no_target(seen):
    camera, received, ask = seen
    assert ask(AWAY)[1].status == Status.NOT_VISIBLE
    camera.eventually(lambda: received, lambda r: r["markers"])
    assert not received["target"] and not received["target_pose"] and not received["surface_pose"]
