"""What became of a marked sphere between two views."""

from __future__ import annotations

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform
from roboref_core.views.registration import Change, what_changed

CAMERA = Camera(320, 240, 280.0, 280.0, 159.5, 119.5)
CENTRE = (0.0, 0.0, 0.5)
A = look_at((-2.2, 0.2, 1.3), CENTRE)
B = look_at((-2.0, -0.4, 1.4), CENTRE)
BALL = ((0.0, 0.0, 0.5), 0.3)
IN_FRONT = ((-1.0, -0.2, 0.95), 0.3)


def grey(level):
    return np.full((CAMERA.height, CAMERA.width, 3), level, np.uint8)


def colored(*rgb):
    return np.broadcast_to(np.array(rgb, np.uint8), (CAMERA.height, CAMERA.width, 3))


@pytest.mark.parametrize(
    ("spheres", "color", "change"),
    [
        ((BALL,), grey(120), Change.UNCHANGED),
        ((BALL,), grey(135), Change.UNCHANGED),  # exposure
        ((), grey(120), Change.GONE),
        ((BALL, IN_FRONT), grey(120), Change.HIDDEN),
        ((BALL,), colored(200, 40, 40), Change.CHANGED),
    ],
)
def test_the_verdict_names_what_happened(room, spheres, color, change):
    before, after = type(room)(spheres=(BALL,)), type(room)(spheres=spheres)
    reference = before.view(A, CAMERA, color=grey(120))
    searched = after.view(B, CAMERA, color=color)
    pixel = tuple(CAMERA.project(transform(inverse(A), np.array([CENTRE])))[0])
    evidence = what_changed(reference, searched, pixel)
    assert evidence.change is change
    assert evidence.agrees + evidence.hidden + evidence.looked_through == pytest.approx(1.0)


def test_without_depth_or_pose_nothing_is_claimed(room):
    view = room.view(A, CAMERA)
    assert what_changed(view, view.with_pose(None), (160, 120)).change is Change.NOT_CHECKED
    assert what_changed(view, room.view(B, CAMERA, depth=None), (160, 120)).change is Change.NOT_CHECKED
    holes = room.view(B, CAMERA, depth=np.zeros((240, 320), np.float32))
    assert what_changed(view, holes, (160, 120)).change is Change.NOT_CHECKED


def test_outside_the_picture_it_is_hidden(room):
    away = room.view(look_at((-2.0, -1.5, 1.4), (-3.0, -2.0, 1.0)), CAMERA)
    assert what_changed(room.view(A, CAMERA), away, (160, 120)).change is Change.HIDDEN


@pytest.mark.parametrize("beyond", [2.0, -2.0])
def test_a_mark_beyond_the_border_is_hidden_whatever_stands_beside_it(room, beyond):
    """The picture ends just before or after the mark; what it shows of the surroundings is unchanged, or gone."""
    reference = room.view(A, CAMERA)
    mark = (160.0, 120.0)
    point = room.point(reference, mark)
    for angle in np.linspace(0.2, 0.7, 400):
        T = look_at((-2.2, 0.2, 1.3), (-2.2 + 2.2 * np.cos(angle), 0.2 + 2.2 * np.sin(angle), 0.5))
        u = CAMERA.project(transform(inverse(T), point[None]))[0, 0]
        if u > CAMERA.width - 0.5 + beyond:
            break
    shown = room.view(T, CAMERA)
    for searched in (shown, room.view(T, CAMERA, depth=shown.depth + 0.5)):
        hidden = what_changed(reference, searched, mark).change is Change.HIDDEN
        assert hidden == (u > CAMERA.width - 0.5), u
