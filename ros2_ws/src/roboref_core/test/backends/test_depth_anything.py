from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from roboref_core.models.depth_anything import DepthAnything, network_input, network_size
from roboref_core.views.depth_picture import relative_to_picture

FIXTURES = Path(__file__).parent / "fixtures"


def test_the_picture_has_the_image_s_size(depth_anything, picture):
    estimator = DepthAnything(depth_anything, device="cpu", size=70)
    image = picture(97, 61)
    relative = estimator.relative(image)
    assert relative.shape == (61, 97) and relative.dtype == np.float32 and (relative >= 0).all()
    drawn = estimator.picture(image)
    assert drawn.shape == (61, 97, 3) and drawn.dtype == np.uint8
    assert (drawn == estimator.picture(image)).all()


def test_sizes_inputs_and_pictures_are_those_of_the_published_code():
    table = json.loads((FIXTURES / "depth_anything_resize_table.json").read_text())
    assert len(table) > 100
    for row in table:
        assert network_size(row["w"], row["h"]) == (row["net_w"], row["net_h"])
    recorded = np.load(FIXTURES / "depth_anything_pre.npz")
    np.testing.assert_allclose(network_input(recorded["rgb"], size=70), recorded["net_input_70"], atol=1e-6)
    np.testing.assert_array_equal(relative_to_picture(recorded["raw_depth"]), recorded["depth_rgb_u8"])


def test_the_network_s_input_is_normalised_by_imagenet_s_statistics():
    grey = network_input(np.full((70, 70, 3), 128, np.uint8), size=70)
    expected = (128 / 255 - np.array([0.485, 0.456, 0.406])) / (0.229, 0.224, 0.225)
    assert grey.shape == (3, 70, 70)
    np.testing.assert_allclose(grey, np.broadcast_to(expected[:, None, None], grey.shape), atol=1e-6)


def test_other_checkpoints_are_refused(tmp_path, llava_onevision):
    with pytest.raises(ValueError, match=r"config\.json"):
        DepthAnything(tmp_path)
    with pytest.raises(ValueError, match="depth_anything"):
        DepthAnything(llava_onevision)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "depth_anything", "depth_estimation_type": "metric", "max_depth": 20})
    )
    with pytest.raises(ValueError, match="metric"):
        DepthAnything(tmp_path)
