from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform
from roboref_core.views.locate import DepthSource, LocateConfig, locate, surface_at, surface_in_box
from roboref_core.views.view import View
from scipy.spatial.transform import Rotation

CONFIG = LocateConfig()
CAMERA = Camera(40, 40, 500.0, 500.0, 19.5, 19.5)


def flat_view(depth, **changes):
    h, w = depth.shape
    camera = Camera(w, h, 500.0, 500.0, (w - 1) / 2, (h - 1) / 2)
    fields = {"view_id": "v", "stamp_ns": 0, "color": np.zeros((h, w, 3), np.uint8), "camera": camera}
    return View(**(fields | {"depth": depth.astype(np.float32), "T_world_camera": np.eye(4)} | changes))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 7), st.floats(6, 153), st.floats(6, 113))
def test_exact_depth_gives_the_exact_point(room, poses, i, u, v):
    """Within a centimetre on planes and small spheres of a coarse picture, at any sub-pixel away from depth edges."""
    view = room.view(poses[i])
    around = [room.point(view, (u + du, v + dv)) for du in (-4, 0, 4) for dv in (-4, 0, 4)]
    distances = np.linalg.norm(np.array(around) - view.T_world_camera[:3, 3], axis=1)
    place = locate(view, (u, v))
    assert place.source == DepthSource.SENSOR
    assert place.in_world
    error = np.linalg.norm(place.point - room.point(view, (u, v)))
    if np.ptp(distances) < 0.15:
        assert error < 0.01


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 6), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(20, 40), st.floats(20, 40))
def test_slanted_planes_are_exact_between_pixels(z0, a, b, u, v):
    camera = Camera(61, 61, 500.0, 500.0, 30.0, 30.0)
    pixels = np.stack(np.meshgrid(np.arange(61), np.arange(61)), axis=-1).reshape(-1, 2)
    normal = np.array([a, b, 1.0])

    def depth_of(p):
        return z0 / (camera.rays(p) @ normal)

    view = flat_view(depth_of(pixels).reshape(61, 61), camera=camera)
    place = locate(view, (u, v))
    assert place.depth == pytest.approx(depth_of(np.array([[u, v]]))[0], rel=1e-5)
    assert place.spread < 1e-5


@pytest.mark.parametrize("u", [28, 29, 30, 31, 32])
def test_at_a_depth_edge_the_pixel_keeps_its_own_surface(u):
    depth = np.full((60, 60), 3.0)
    depth[:, 30:] = 1.0
    expected = 1.0 if u >= 30 else 3.0
    assert locate(flat_view(depth), (u, 30)).depth == pytest.approx(expected, abs=1e-6)


def test_a_mixed_pixel_between_two_surfaces_is_not_a_surface():
    depth = np.full((60, 60), 3.0)
    depth[:, 30:] = 1.0
    depth[30, 30] = 2.1
    place = locate(flat_view(depth), (30, 30))
    assert place.source in (DepthSource.NONE, DepthSource.FILLED)
    if place.source == DepthSource.FILLED:
        assert place.depth == pytest.approx(1.0, abs=1e-3) or place.depth == pytest.approx(3.0, abs=1e-3)


@pytest.mark.parametrize("invalid", [0.0, np.nan, np.inf, -np.inf, -1.0, 65.535])
def test_holes_of_every_kind_are_filled_near_and_refused_far(invalid):
    depth = np.full((80, 80), 2.0)
    depth[30:50, 30:50] = invalid
    view = flat_view(depth)
    near = locate(view, (33, 40))
    assert near.source == DepthSource.FILLED
    assert near.depth == pytest.approx(2.0, abs=1e-6)
    assert locate(view, (40, 40)).source == DepthSource.NONE
    assert locate(view, (40, 40)).point is None
    assert locate(view, (33, 40), config=LocateConfig(fill_radius=0)).source == DepthSource.NONE


def test_a_hole_between_two_surfaces_is_not_guessed():
    depth = np.full((60, 60), 3.0)
    depth[:, 33:] = 1.0
    depth[:, 27:33] = 0.0
    assert locate(flat_view(depth), (30, 30)).source == DepthSource.NONE


def test_all_holes_and_no_depth():
    assert locate(flat_view(np.zeros((40, 40))), (20, 20)).source == DepthSource.NONE
    assert (
        locate(View(view_id="v", stamp_ns=0, color=np.zeros((40, 40, 3), np.uint8), camera=CAMERA), (20, 20)).source
        == DepthSource.NONE
    )


def test_colour_and_depth_cameras_differ(room, poses):
    color = Camera(324, 242, 292.4, 291.8, 161.6, 122.5)
    depth = Camera(160, 120, 144.4, 144.7, 79.7, 60.7)
    view = room.view(poses[0], camera=color, depth_camera=depth)
    for pixel in [(30.0, 200.0), (290.3, 30.2), (161.0, 121.0)]:
        np.testing.assert_allclose(locate(view, pixel).point, room.point(view, pixel), atol=4e-3)


def test_without_a_pose_the_point_is_in_the_optical_frame():
    place = locate(flat_view(np.full((40, 40), 2.0), T_world_camera=None), (19.5, 19.5))
    assert not place.in_world
    np.testing.assert_allclose(place.point, (0, 0, 2.0), atol=1e-9)


@pytest.mark.parametrize("slant", [0.0, 0.5])
def test_covariance_matches_monte_carlo(slant):
    """Pixel and depth noise pushed through by sampling give the stated covariance."""
    rng = np.random.default_rng(5)
    camera = Camera(81, 81, 400.0, 400.0, 40.0, 40.0)
    normal = np.array([slant, 0.2 * slant, 1.0])
    pixels = np.stack(np.meshgrid(np.arange(81), np.arange(81)), axis=-1).reshape(-1, 2)
    view = flat_view((2.0 / (camera.rays(pixels) @ normal)).reshape(81, 81), camera=camera)
    T = look_at((1.0, 2.0, 1.0), (0.0, 0.0, 0.0))
    view = view.with_pose(T)
    pixel, pixel_covariance = np.array([50.0, 35.0]), np.array([[9.0, 3.0], [3.0, 4.0]])
    place = locate(view, pixel, pixel_covariance)
    samples = rng.multivariate_normal(pixel, pixel_covariance, 20000)
    depth = 2.0 / (camera.rays(samples) @ normal)
    depth = depth + rng.normal(0, CONFIG.sensor_sigma(place.depth), len(depth))
    cloud = transform(T, camera.unproject(samples, depth))
    np.testing.assert_allclose(place.covariance, np.cov(cloud.T), atol=0.08 * np.trace(place.covariance))
    assert np.linalg.eigvalsh(place.covariance).min() > 0


def test_pose_uncertainty_matches_monte_carlo(room, poses):
    rng = np.random.default_rng(7)
    view, pixel = room.view(poses[0]), (60.0, 80.0)
    sigma_t, sigma_r = 0.02, np.radians(1.0)
    plain = locate(view, pixel)
    place = locate(view, pixel, config=LocateConfig(pose_translation_sigma=sigma_t, pose_rotation_sigma=sigma_r))
    in_camera = transform(inverse(poses[0]), place.point)
    turns = Rotation.from_rotvec(rng.normal(0, sigma_r, (20000, 3)))
    cloud = transform(poses[0], turns.apply(in_camera)) + rng.normal(0, sigma_t, (20000, 3))
    expected = np.cov(cloud.T) + plain.covariance
    np.testing.assert_allclose(place.covariance, expected, atol=0.05 * np.trace(expected))


def test_noise_shows_in_the_spread():
    rng = np.random.default_rng(6)
    quiet = locate(flat_view(2.0 + rng.normal(0, 0.001, (60, 60))), (30, 30))
    loud = locate(flat_view(2.0 + rng.normal(0, 0.01, (60, 60))), (30, 30))
    assert 0.0003 < quiet.spread < 0.002 < loud.spread < 0.02
    assert abs(loud.depth - 2.0) < 0.01


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_depth_image_gives_a_finite_answer_or_none(data):
    values = st.sampled_from([0.0, np.nan, np.inf, 0.5, 0.51, 1.0, 1.3, 2.0, 9.9, 1e-9, -3.0])
    depth = np.array(data.draw(st.lists(values, min_size=400, max_size=400))).reshape(20, 20)
    u, v = data.draw(st.tuples(st.floats(-2, 21), st.floats(-2, 21)))
    surface = surface_at(depth, np.array([u, v]), CONFIG)
    if surface is not None:
        found = surface.depth_at(np.array([[u, v]]))[0]
        assert CONFIG.min_depth <= found <= CONFIG.max_depth
        assert np.isfinite(surface.spread)


def test_box_frames_the_object_not_the_background(room):
    view = room.view(look_at((-2.0, 0.0, 1.0), (0.0, 0.0, 0.5)))
    names = surface_in_box(view, (50, 30, 110, 90))
    assert len(names) > 50
    distance = np.linalg.norm(names - (0.0, 0.0, 0.5), axis=1)
    np.testing.assert_allclose(distance, 0.5, atol=0.02)


def test_box_over_holes_is_empty(room, poses):
    view = room.view(poses[0], depth=np.zeros((120, 160), np.float32))
    assert len(surface_in_box(view, (50, 30, 110, 90))) == 0


@pytest.mark.parametrize("offset", [-1.0, 0.0, 1.0])
def test_beside_an_outline_the_covariance_owns_both_surfaces(offset):
    """Exact depth; the true surface may be either of the two, as colour and depth agree to about a pixel."""
    depth = np.full((60, 80), 3.0, np.float32)
    depth[:, :40] = 1.0
    view = flat_view(depth)
    place = locate(view, (39.5 + offset, 30.0))
    for truth in (1.0, 3.0):
        error = view.camera.unproject(np.array([[39.5 + offset, 30.0]]), np.array([truth]))[0] - place.point
        assert error @ np.linalg.solve(place.covariance, error) < 7.8
    far = locate(view, (50.0, 30.0))
    assert np.sqrt(far.covariance[2, 2]) < 0.03


def test_a_thin_thing_without_depth_lies_inside_the_ellipsoid():
    """A pen 1 m away that returns no depth, before a table 1.31 m away."""
    depth = np.full((60, 80), 1.31, np.float32)
    depth[10:50, 38:43] = 0.0
    view = flat_view(depth)
    place = locate(view, (40.0, 30.0))
    error = view.camera.unproject(np.array([[40.0, 30.0]]), np.array([1.0]))[0] - place.point
    assert place.source == DepthSource.FILLED and error @ np.linalg.solve(place.covariance, error) < 7.8


@pytest.mark.parametrize("far", [1.4, 2.0, 5.0])
def test_a_hole_near_a_second_surface_is_not_filled(far):
    """The nearest values are one surface; the other one begins behind them, within reach of the hole."""
    depth = np.full((60, 60), 1.0)
    depth[:, 34:] = far
    depth[27:32, 27:32] = 0.0
    assert locate(flat_view(depth), (29, 29)).source == DepthSource.NONE
