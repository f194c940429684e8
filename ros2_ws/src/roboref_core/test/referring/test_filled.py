from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import pose
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.referring.answer import Status
from roboref_core.referring.query import MarkedPoint, Query
from roboref_core.referring.refer import answer
from roboref_core.views.locate import DepthSource
from roboref_core.views.view import View
from roboref_core.views.view_buffer import SECOND, ViewBuffer, ViewBufferConfig

CAMERA = Camera(160, 120, 150.0, 150.0, 79.5, 59.5)
PEN = slice(76, 82)


def asked_for_the_pen(pen_depth: float, table: float = 1.31, aside: float = 0.02):
    """A pen whose depth one view measures and a later one, ``aside`` [m], misses; the answer and the pen's place."""
    then = np.full((120, 160), table, np.float32)
    then[20:100, PEN] = pen_depth
    now = np.full((120, 160), table, np.float32)
    # Where the pen at its depth projects after the camera moved aside.
    shift = round(CAMERA.fx * aside / pen_depth)
    now[20:100, PEN.start - shift : PEN.stop - shift] = 0.0
    buffer = ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.0))
    for k, (depth, x) in enumerate(((then, 0.0), (now, aside))):
        color = np.zeros((120, 160, 3), np.uint8)
        buffer.add(
            View(view_id=f"v{k}", stamp_ns=(k + 1) * SECOND, color=color, camera=CAMERA, depth=depth,
                 T_world_camera=pose(np.eye(3), (x, 0.0, 0.0)))
        )  # fmt: skip
    reply = answer(Query("the pen", regions=(MarkedPoint((78.5, 60.0), "v0"),)), buffer, ReprojectionModel())
    return reply, CAMERA.unproject(np.array([[78.5, 60.0]]), np.array([pen_depth]))[0]


@pytest.mark.parametrize("pen_depth", [0.5, 0.8, 1.0, 1.15])
def test_depth_filled_from_behind_a_marked_thing_is_no_position(pen_depth):
    reply, _ = asked_for_the_pen(pen_depth)
    assert reply.status == Status.FOUND_WITHOUT_POSITION
    assert reply.targets[0].position is None
    assert reply.targets[0].depth_source == DepthSource.NONE


def test_depth_filled_within_the_marked_surface_is_its_place():
    reply, truth = asked_for_the_pen(1.30)
    assert (reply.status, reply.targets[0].depth_source) == (Status.FOUND, DepthSource.FILLED)
    off = reply.targets[0].position - truth
    assert np.linalg.norm(off) < 0.03
    assert off @ np.linalg.solve(reply.targets[0].covariance, off) < 7.8
