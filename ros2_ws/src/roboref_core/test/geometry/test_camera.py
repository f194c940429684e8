from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roboref_core.geometry.camera import Camera, map_pixels, normalised_to_pixel, pixel_to_normalised

CAMERAS = {
    "none": Camera(640, 480, 525.0, 520.0, 319.5, 239.5),
    "plumb_bob": Camera(640, 480, 525.0, 520.0, 318.0, 242.0, "plumb_bob", (0.1, -0.2, 0.001, -0.002, 0.05)),
    "plumb_bob_4": Camera(640, 480, 525.0, 520.0, 318.0, 242.0, "plumb_bob", (-0.28, 0.07, 0.001, 0.0005)),
    "rational": Camera(
        1280, 720, 610.0, 612.0, 641.0, 358.0, "rational_polynomial", (0.4, -2.0, 7e-4, -3e-4, 1.2, 0.3, -1.8, 1.1)
    ),
    "equidistant": Camera(848, 800, 426.0, 426.5, 421.0, 399.0, "equidistant", (-0.007, 0.04, -0.039, 0.007)),
}


def opencv_project(camera: Camera, points):
    zero = np.zeros(3)
    points = points.reshape(-1, 1, 3)
    if camera.distortion_model == "equidistant":
        pixels, _ = cv2.fisheye.projectPoints(points, zero, zero, camera.matrix, np.array(camera.distortion))
    else:
        pixels, _ = cv2.projectPoints(points, zero, zero, camera.matrix, np.array(camera.distortion or [0.0] * 4))
    return pixels.reshape(-1, 2)


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS.keys())
def test_project_agrees_with_opencv(camera):
    rng = np.random.default_rng(1)
    pixels = rng.uniform((0, 0), (camera.width - 1, camera.height - 1), (500, 2))
    points = camera.unproject(pixels, rng.uniform(0.3, 8, 500))
    assert np.isfinite(points).all()
    np.testing.assert_allclose(opencv_project(camera, points), pixels, atol=1e-5)
    np.testing.assert_allclose(camera.project(points), pixels, atol=1e-6)


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS.keys())
@given(u=st.floats(0, 639), v=st.floats(0, 479), depth=st.floats(0.05, 50))
def test_unproject_then_project_returns_the_pixel(camera, u, v, depth):
    point = camera.unproject([[u, v]], [depth])
    assert point[0, 2] == pytest.approx(depth)
    np.testing.assert_allclose(camera.project(point), [[u, v]], atol=1e-5)


def test_behind_the_camera_is_nan():
    assert np.isnan(CAMERAS["none"].project([[0.1, 0.1, -1.0], [0.0, 0.0, 0.0]])).all()


def test_far_off_points_do_not_fold_back_into_the_picture():
    camera = CAMERAS["plumb_bob_4"]
    # Beyond the radius where r * (1 - 0.28 r^2 + 0.07 r^4) ... turns, pixels would come back inside.
    angles = np.linspace(0, 2 * np.pi, 50)
    for radius in (1.6, 3.0, 10.0):
        points = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.ones(50)], axis=1)
        pixels = camera.project(points)
        back = camera.rays(pixels[camera.contains(pixels)])
        inside = points[camera.contains(pixels)]
        np.testing.assert_allclose(back, inside, atol=1e-4)


@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0, 1), st.floats(0, 1))
def test_normalised_round_trip_and_edges(width, height, x, y):
    np.testing.assert_allclose(
        pixel_to_normalised(normalised_to_pixel([x, y], width, height), width, height), [x, y], atol=1e-12
    )
    assert pixel_to_normalised([0, 0], width, height)[0] == pytest.approx(0.5 / width)
    assert pixel_to_normalised([width - 1, 0], width, height)[0] == pytest.approx(1 - 0.5 / width)


def test_resized_camera_sees_the_same_ray_through_the_same_place_of_the_picture():
    camera = CAMERAS["plumb_bob"]
    small = camera.resized(160, 120)
    xy = np.random.default_rng(2).uniform(0, 1, (100, 2))
    np.testing.assert_allclose(
        camera.rays(normalised_to_pixel(xy, 640, 480)), small.rays(normalised_to_pixel(xy, 160, 120)), atol=1e-9
    )


def test_map_pixels_of_scannet_sizes():
    color = Camera(1296, 968, 1169.6, 1167.1, 646.3, 489.9)
    depth = Camera(640, 480, 577.6, 578.7, 318.9, 242.7)
    pixels = np.random.default_rng(3).uniform(0, 900, (100, 2))
    there = map_pixels(pixels, color, depth)
    np.testing.assert_allclose(map_pixels(there, depth, color), pixels, atol=1e-9)
    expected = (pixels - (646.3, 489.9)) / (1169.6, 1167.1) * (577.6, 578.7) + (318.9, 242.7)
    np.testing.assert_allclose(there, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distortion_model": "fov", "d": [0.9]}, "unknown distortion model 'fov'"),
        ({"distortion_model": "plumb_bob", "d": [0.1, 0.2]}, "takes 4 or 5"),
        ({"k": [0.0] * 9}, "fx=0.0"),
        ({"k": [1.0] * 4}, "9 entries"),
        ({"k": [500, 3, 320, 0, 500, 240, 0, 0, 1]}, "skew"),
        ({"width": 0}, "0x480"),
        ({"distortion_model": "plumb_bob", "d": [float("nan")] * 5}, "finite"),
        ({"distortion_model": "", "d": [0.1] * 5}, "names no distortion model"),
    ],
)
def test_bad_camera_info_is_refused_by_name(change, words):
    fields = {"width": 640, "height": 480, "k": [500, 0, 320, 0, 500, 240, 0, 0, 1], "distortion_model": "", "d": []}
    with pytest.raises(ValueError, match=words):
        Camera.from_camera_info(**(fields | change))


def test_a_ray_beyond_ninety_degrees_is_nan():
    fisheye = Camera(848, 800, 286.0, 286.0, 421.0, 399.0, "equidistant", (-0.007, 0.04, -0.039, 0.007))
    assert np.isnan(fisheye.rays([[0, 0]])[0, :2]).all()
    assert np.isfinite(fisheye.rays([[421, 40]])).all()


def test_zero_coefficients_mean_no_distortion():
    camera = Camera.from_camera_info(640, 480, [500, 0, 320, 0, 500, 240, 0, 0, 1], "plumb_bob", [0.0] * 5)
    assert camera.distortion_model == "none"


def test_size_is_checked_against_the_image():
    with pytest.raises(ValueError, match="320x240 pixels, but its camera info says 640x480"):
        CAMERAS["none"].check_size((240, 320, 3), "colour image")
