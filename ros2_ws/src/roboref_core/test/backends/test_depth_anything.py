from __future__ import annotations

import json

import numpy as np
import pytest
from roboref_core.models.depth_anything import DepthAnything, network_input, network_size


def test_the_picture_has_the_image_s_size(depth_anything, picture):
    estimator = DepthAnything(depth_anything, device="cpu", size=70)
    image = picture(97, 61)
    relative = estimator.relative(image)
    assert relative.shape == (61, 97) and relative.dtype == np.float32 and (relative >= 0).all()
    drawn = estimator.picture(image)
    assert drawn.shape == (61, 97, 3) and drawn.dtype == np.uint8
    assert (drawn == estimator.picture(image)).all()


@pytest.mark.parametrize(
    # From runs of the published preprocessing: ../shared/fixtures/roborefer/depth_anything_resize_table.json
    ("image", "network"),
    [((640, 480), (686, 518)), ((480, 640), (518, 686)), ((1280, 720), (924, 518))],
)
def test_the_network_s_size_is_the_published_one(image, network):
    assert network_size(*image) == network


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
