"""Marks and memories of one world frame, asked about in views of another."""

from __future__ import annotations

import numpy as np
import pytest
from looks import AWAY, NOT_VISIBLE, A, B, found, point
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import pose
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.referring.answer import Agreement, Status
from roboref_core.referring.query import MarkedBox, MarkedPosition, Query
from roboref_core.referring.refer import ReferConfig, answer
from roboref_core.views.view_buffer import SECOND, ViewBuffer


class Linked:
    """Frames of which some are linked by a fixed offset; others by nothing."""

    def __init__(self, **offsets):
        self.offsets = offsets

    def lookup(self, target_frame, source_frame, stamp_ns):
        if not {target_frame, source_frame} <= self.offsets.keys():
            raise ReferError(ErrorCode.TF_ERROR, f"nothing links {source_frame!r} and {target_frame!r}")
        return pose(np.eye(3), np.subtract(self.offsets[target_frame], self.offsets[source_frame]))


OFFSET = np.array([0.5, 0.0, 0.0])
FRAMES = Linked(world=(0, 0, 0), odom3=OFFSET)


def add_in_another_world(room, buffer, T, seconds):
    """The same room, seen with poses in a frame whose origin lies elsewhere."""
    view = room.view(T, view_id=buffer.next_id(), stamp_ns=int(seconds * SECOND))
    view = view.with_pose(pose(np.eye(3), OFFSET) @ T, "odom3")
    buffer.add(view)
    return view


@pytest.mark.parametrize("kind", ["point", "box", "position"])
def test_a_mark_of_another_world_frame_is_transformed(room, buffer, add, kind):
    a = add(A, 0)
    add_in_another_world(room, buffer, B, 1)
    marks = {
        "point": point(a, (74.0, 52.0)),
        "box": MarkedBox((55, 35, 105, 85), a.view_id),
        "position": MarkedPosition((0.0, 0.0, 1.0), "world"),
    }
    same = ViewBuffer(buffer.config)
    for view in (a, room.view(B, view_id="b", stamp_ns=SECOND)):
        same.add(view)
    expected = answer(Query("", regions=(marks[kind],)), same, ReprojectionModel()).targets[0]
    reply = answer(Query("", regions=(marks[kind],)), buffer, ReprojectionModel(), frames=FRAMES)
    assert (reply.status, reply.targets[0].frame_id) == (Status.FOUND, "odom3")
    np.testing.assert_allclose(reply.targets[0].position - OFFSET, expected.position, atol=1e-6)
    # The other world begins at that view, so that no drift of its way counts there.
    np.testing.assert_allclose(reply.targets[0].covariance, expected.covariance, rtol=1e-3, atol=5e-5)
    assert reply.check.agreement == Agreement.AGREES
    there = answer(Query("", regions=(marks[kind],), target_frame="world"), buffer, ReprojectionModel(), frames=FRAMES)
    np.testing.assert_allclose(there.targets[0].position, expected.position, atol=1e-6)


@pytest.mark.parametrize("frames", [None, Linked(world=(0, 0, 0))], ids=["no frames", "not linked"])
def test_world_frames_that_nothing_links_are_named(room, buffer, add, answering, frames):
    a = add(A, 0)
    add_in_another_world(room, buffer, B, 1)
    for model in (ReprojectionModel(), answering(found((79.0, 58.0)))):
        reply = answer(Query("it", regions=(point(a, (74.0, 52.0)),)), buffer, model, frames=frames)
        assert (reply.error_code, reply.targets) == (ErrorCode.TF_ERROR, ())
        assert "'world'" in reply.error_msg and "'odom3'" in reply.error_msg


def test_memory_of_another_world_frame(room, buffer, add, answering):
    a = add(A, 0)
    query = Query("it", regions=(point(a, (74.0, 52.0)),), search_memory=True)
    add_in_another_world(room, buffer, AWAY, 1)
    reply = answer(query, buffer, ReprojectionModel(), ReferConfig(target_frame="odom3"), FRAMES)
    assert [known.view_id for known in reply.last_known] == [a.view_id]
    np.testing.assert_allclose(reply.last_known[0].target.position, room.point(a, (74.0, 52.0)) + OFFSET, atol=0.01)
    assert reply.error_msg == ""
    words = answer(
        Query("ball", search_memory=True, target_frame="odom3"), buffer, answering(NOT_VISIBLE, found((74.0, 52.0)))
    )
    assert (words.status, words.last_known) == (Status.NOT_VISIBLE, ())
    assert "'world'" in words.error_msg and "'odom3'" in words.error_msg, "nothing is swallowed"
