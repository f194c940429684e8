"""Things looked for by what they look like: found where they were put, and not found where they were not."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform
from roboref_core.models import reprojection
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Place, PointingRequest, PointMark
from roboref_core.models.reprojection import ReprojectionModel
from roboref_core.referring.targets import targets_of
from roboref_core.views import appearance_search
from roboref_core.views.appearance_search import Sighting, find_by_appearance
from roboref_core.views.locate import LocateConfig, locate
from roboref_core.views.marked_thing import thing_at
from roboref_core.views.registration import FeatureCache
from roboref_core.views.visibility import Visibility

CAMERA = Camera(320, 240, 280.0, 280.0, 159.5, 119.5)
OLD, NEW = (0.0, -0.5, 0.3), (0.3, 0.7, 0.3)
A = look_at((-2.2, 0.2, 1.3), (0.0, 0.0, 0.3))
B = look_at((-2.0, -0.3, 1.5), (0.1, 0.2, 0.3))
GREEN, BLUE = (60, 170, 70), (50, 70, 190)


def room_with(room, *spheres):
    """A grey room with balls of one colour: ((x, y, z), radius, colour)."""
    made = type(room)([(centre, radius) for centre, radius, _ in spheres])

    def view(T, view_id="view", **changes):
        depth = made.depth(CAMERA, T)
        points = transform(T, CAMERA.unproject(grid(), depth.ravel()))
        color = np.full((len(points), 3), 170, np.uint8)
        for centre, radius, own in spheres:
            on = np.abs(np.linalg.norm(points - centre, axis=1) - radius) < 1e-3
            shade = 0.75 + 0.25 * (points[on, 2:] - centre[2]) / radius
            color[on] = (shade * own).clip(0, 255)
        shape = (CAMERA.height, CAMERA.width)
        fields = {"color": color.reshape(*shape, 3), "depth": depth.astype(np.float32)}
        return made.view(T, CAMERA, view_id=view_id, **(fields | changes))

    return view


def grid():
    return (
        np.stack(np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height)), axis=-1).reshape(-1, 2).astype(float)
    )


def pixel_of(T, point):
    return tuple(CAMERA.project(transform(inverse(T), np.array([point])))[0])


def search(before, after, mark=OLD, pose=True, **options):
    reference, searched = before(A, "a"), after(B, "b")
    if not pose:
        reference, searched = reference.with_pose(None), searched.with_pose(None)
    return find_by_appearance(reference, pixel_of(A, mark), searched, FeatureCache(), **options)


@pytest.mark.parametrize("pose", [True, False])
def test_a_plain_thing_is_found_where_it_was_put(room, pose):
    found = search(room_with(room, (OLD, 0.25, GREEN)), room_with(room, (NEW, 0.25, GREEN)), pose=pose)
    assert found.pixel is not None and found.score > 0.3, found.reason
    assert np.hypot(*np.subtract(found.pixel, pixel_of(B, NEW))) < 15


def test_what_was_taken_away_is_not_found(room):
    found = search(room_with(room, (OLD, 0.25, GREEN)), room_with(room, (NEW, 0.25, BLUE)))
    assert found.pixel is None and "nothing of its colours" in found.reason


def test_a_twin_that_stood_there_before_is_not_the_thing(room):
    twin = (NEW, 0.25, GREEN)
    found = search(room_with(room, (OLD, 0.25, GREEN), twin), room_with(room, twin))
    assert found.pixel is None


def test_another_size_is_another_thing(room):
    found = search(room_with(room, (OLD, 0.25, GREEN)), room_with(room, ((*NEW[:2], 0.09), 0.09, GREEN)))
    assert found.pixel is None


def test_two_alike_are_not_told_apart(room):
    twins = room_with(room, (NEW, 0.25, GREEN), (OLD[:1] + (-0.1, 0.3), 0.25, GREEN))
    found = search(room_with(room, ((0.0, -1.1, 0.3), 0.25, GREEN)), twins, mark=(0.0, -1.1, 0.3), pose=False)
    assert found.pixel is None and "look alike" in found.reason


def test_a_textured_thing_is_found_with_its_motion(room):
    """The whole room is the textured thing: what one rigid motion carries over."""
    reference = room.textured(A, view_id="a").with_pose(None)
    T = look_at((-2.1, 0.05, 1.35), (0.0, 0.05, 0.3))
    searched = room.textured(T, view_id="b").with_pose(None)
    mark = (160.0, 120.0)
    found = find_by_appearance(reference, mark, searched, FeatureCache(), box=(60.0, 40.0, 260.0, 200.0))
    assert found.T_searched_reference is not None, found.reason
    truth = pixel_of(T, room.point(room.textured(A), mark))
    assert np.hypot(*np.subtract(found.pixel, truth)) < 4


def test_what_lies_beyond_the_border_is_not_found_in_the_picture(room):
    """The textured thing is recognised, its marked part is not in sight."""
    T = look_at((-2.1, 0.05, 1.35), (0.0, 0.6, 0.3))
    reference, searched = room.textured(A, view_id="a").with_pose(None), room.textured(T, view_id="b").with_pose(None)
    box = (60.0, 40.0, 260.0, 200.0)
    found = []
    for u in np.arange(70.0, 260.0, 12.0):
        mark = (u, 120.0)
        truth = np.array(pixel_of(T, room.point(room.textured(A), mark)))
        if np.abs(truth[0] - CAMERA.width) < 8 or np.abs(truth[0]) < 8:
            continue
        sighting = find_by_appearance(reference, mark, searched, FeatureCache(), box=box)
        found.append(sighting.pixel is not None)
        assert found[-1] == CAMERA.contains(truth[None])[0], (truth, sighting)
    assert any(found) and not all(found)


def test_a_wall_is_no_thing(room):
    before = room_with(room, (OLD, 0.25, GREEN))
    thing = thing_at(before(A), (10.0, 10.0))
    assert "of the picture" in thing.reason
    assert search(before, before, mark=tuple(room.point(before(A), (10.0, 10.0)))).pixel is None


def test_a_box_bounds_the_thing(room):
    view = room_with(room, (OLD, 0.25, GREEN))(A)
    u, v = pixel_of(A, OLD)
    whole, part = thing_at(view, (u, v)), thing_at(view, (u, v), (u - 10, v - 10, u + 10, v + 10))
    assert not whole.reason and not part.reason
    assert part.mask.sum() <= 21 * 21 < whole.mask.sum()


def test_without_depth_there_is_a_reason(room):
    view = room_with(room, (OLD, 0.25, GREEN))(A)
    blind = room.view(B, CAMERA, depth=None)
    assert find_by_appearance(view, pixel_of(A, OLD), blind, FeatureCache()).reason == "both views need depth"


def marked(view):
    """The ball at its old place, marked in A."""
    view, pixel = view(A, "a"), pixel_of(A, OLD)
    location = locate(view, pixel)
    return PointMark(view, pixel, Place(location.point, location.covariance, view.world_frame))


def test_the_geometric_backend_answers_with_the_new_place_of_what_is_gone(room):
    """The old place is seen, and looked through."""
    before, after = room_with(room, (OLD, 0.25, GREEN)), room_with(room, (NEW, 0.25, GREEN))
    request = PointingRequest("", after(B, "b"), (marked(before),))
    found = ReprojectionModel().predict(request)
    assert found.outcome is Outcome.VISIBLE
    np.testing.assert_allclose(found.points[0], pixel_of(B, NEW), atol=15)
    off = found.points[0] - pixel_of(B, NEW)
    assert off @ np.linalg.solve(found.point_covariance[0], off) < 9.2
    # Any point of the ball may be the marked one.
    assert 0.05 < found.extent[0] < 0.25


def test_the_geometric_backend_does_not_search_for_what_stands_where_it_stood(room):
    view = room_with(room, (OLD, 0.25, GREEN), (NEW, 0.25, GREEN))
    mark = marked(view)
    found = ReprojectionModel().predict(PointingRequest("", view(B, "b"), (mark,)))
    np.testing.assert_allclose(found.points[0], pixel_of(B, mark.place.position), atol=1e-6)


def test_the_geometric_backend_says_that_what_was_taken_away_is_not_there(room):
    before, after = room_with(room, (OLD, 0.25, GREEN)), room_with(room)
    request = PointingRequest("", after(B, "b"), (marked(before),))
    found = ReprojectionModel().predict(request)
    assert found.outcome is Outcome.NOT_VISIBLE and found.visibility is Visibility.CONFLICT


@pytest.mark.parametrize("hole", [True, False])
def test_what_is_found_where_it_was_marked_did_not_move(room, monkeypatch, hole):
    """Depth around the mark is that of what is behind, as at ragged edges: the thing looks gone, and another part of it
    is found where it was."""
    before = room_with(room, (OLD, 0.25, GREEN))
    mark, searched = marked(before), before(B, "b")
    expected = pixel_of(B, mark.place.position)
    u, v = (round(x) for x in expected)
    depth = searched.depth.copy()
    depth[v - 9 : v + 10, u - 9 : u + 10] += 0.3
    if hole:
        depth[v - 2 : v + 3, u - 2 : u + 3] = 0.0
    damaged = before(B, "b", depth=depth)
    other_part = Sighting((expected[0] + 15, expected[1]), 0.5, point=np.zeros(3), extent=0.1, stayed=True)
    monkeypatch.setattr(reprojection, "find_by_appearance", lambda *_: other_part)
    found = ReprojectionModel().predict(PointingRequest("", damaged, (mark,)))
    assert found.visibility is Visibility.UNKNOWN
    np.testing.assert_allclose(found.points[0], expected, atol=1e-6)
    (target,) = targets_of(found, damaged, damaged.world_frame, LocateConfig(), None)
    assert target.position is None or hole, "measured there is what is behind"


@pytest.mark.parametrize(("shift", "stayed"), [(0.0, True), (0.1, True), (0.9, False)])
def test_what_stands_within_its_own_extent_of_the_mark_stayed(room, shift, stayed):
    view = room_with(room, (OLD, 0.25, GREEN))
    reference, searched = view(A, "a"), view(B, "b")
    place = transform(inverse(B), np.array(OLD) + (0.0, shift, 0.0))
    sighting = Sighting((0.0, 0.0), point=place, extent=0.2)
    thing = thing_at(reference, pixel_of(A, OLD))
    assert appearance_search._stayed(sighting, thing, pixel_of(A, OLD), reference, searched) is stayed
    unposed = searched.with_pose(None)
    assert not appearance_search._stayed(sighting, thing, pixel_of(A, OLD), reference, unposed)


def test_depth_that_looks_through_a_thin_thing_gives_no_position(room):
    """All that is around the mark is gone, by less than what still counts as the same point."""
    before = room_with(room, (OLD, 0.25, GREEN))
    mark, searched = marked(before), before(B, "b")
    behind = before(B, "b", depth=searched.depth + np.float32(0.06))
    found = ReprojectionModel().predict(PointingRequest("", behind, (mark,)))
    assert found.outcome is Outcome.VISIBLE
    (target,) = targets_of(found, behind, behind.world_frame, LocateConfig(), None)
    assert target.position is None
    np.testing.assert_allclose(target.pixel, pixel_of(B, mark.place.position), atol=1e-6)
