"""What is drawn for the browser lies where the numbers say."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, transform

from page.pictures import MARK, depth_colours, ellipse_svg, jpeg, point_svg, targets_svg

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
POSE = look_at((1.0, 2.0, 1.5), (0.0, 0.0, 0.5))


def inside(svg: str, pixels: np.ndarray) -> np.ndarray:
    """(N,) whether pixels lie in the ellipse of an SVG."""
    number = r"(-?[\d.]+)"
    u, v, a, b, angle = map(
        float, re.search(rf'cx="{number}" cy="{number}" rx="{number}" ry="{number}".*rotate\({number} ', svg).groups()
    )
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    d = pixels - (u, v)
    return ((c * d[:, 0] + s * d[:, 1]) / a) ** 2 + ((c * d[:, 1] - s * d[:, 0]) / b) ** 2 <= 1


def test_the_ellipse_holds_95_percent_of_what_the_covariance_says():
    rng = np.random.default_rng(0)
    root = 0.03 * rng.normal(size=(3, 3))
    position, covariance = np.array([0.1, 0.0, 0.6]), root @ root.T
    samples = rng.multivariate_normal(position, covariance, 20_000)
    pixels = CAMERA.project(transform(inverse(POSE), samples))
    assert np.mean(inside(ellipse_svg(position, covariance, CAMERA, POSE), pixels)) == pytest.approx(0.95, abs=0.01)


def test_what_cannot_be_drawn_is_left_out():
    behind = POSE[:3, 3] - POSE[:3, 2]
    assert ellipse_svg(behind, np.eye(3), CAMERA, POSE) == ""
    assert ellipse_svg(np.zeros(3), np.full((3, 3), np.nan), CAMERA, POSE) == ""
    assert "<ellipse" not in targets_svg([((10.0, 20.0), None, None, "")], CAMERA, POSE)


def test_text_is_escaped():
    assert "<script>" not in point_svg((1.0, 2.0), MARK, (640, 480), "<script>alert(1)</script>")


def test_depth_is_black_without_measurement_and_red_when_near():
    picture = depth_colours(np.array([[0.0, np.nan, 0.3, 4.9]], np.float32))
    assert not picture[0, :2].any()
    assert picture[0, 2, 0] > picture[0, 2, 2] and picture[0, 3, 2] > picture[0, 3, 0]


def test_jpeg_keeps_channels_and_is_made_narrower():
    red = np.zeros((90, 120, 3), np.uint8)
    red[..., 0] = 255
    decoded = cv2.imdecode(np.frombuffer(jpeg(red, 60), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (45, 60, 3) and decoded[..., 2].mean() > 240 and decoded[..., 0].mean() < 20
