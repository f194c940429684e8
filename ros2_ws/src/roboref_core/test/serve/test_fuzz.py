"""Whatever is sent, the server answers with a status of its own choosing and stays up."""

from __future__ import annotations

import base64
import io
import json

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from roboref_core.serve.app import create_app
from roboref_core.serve.images import ImageRefused, decode_images

FIELDS = ("image_url", "depth_url", "enable_depth", "text", "images", "depths")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["", "AAAA", "iVBORw0K"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=6),
    max_leaves=20,
)
bodies = st.one_of(
    st.binary(max_size=300),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, json_values)).map(lambda v: json.dumps(v).encode()),
)


@pytest.fixture(scope="module")
def client(running, make_model):
    with running(create_app(make_model())) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, path=st.sampled_from(["/query", "/v1/refer"]))
def test_any_body(client, body, path):
    reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (200, 400, 422)
    assert reply.json() if reply.status_code == 200 else reply.json()["detail"]
    assert len(reply.content) < 20_000 + 4 * len(body)


def _files():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8))
    for format in ("PNG", "JPEG", "WEBP", "BMP"):
        file = io.BytesIO()
        image.save(file, format)
        yield file.getvalue()


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(list(_files())), st.data())
def test_any_damage_to_an_image_file_is_refused_or_decoded_within_bounds(file, data):
    damaged = bytearray(file)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        if data.draw(st.booleans()):
            damaged[at] = data.draw(st.integers(0, 255))
        else:
            damaged = damaged[: max(1, at)]
    try:
        (image,) = decode_images([base64.b64encode(damaged).decode()], "images", max_pixels=100_000)
    except ImageRefused as error:
        assert "images" in str(error)
    else:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[0] * image.shape[1] <= 100_000
