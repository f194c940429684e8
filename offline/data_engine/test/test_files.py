from __future__ import annotations

import errno

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.data_engine import files
from offline.data_engine.files import encode_png, read_json, read_mask, read_picture, write_bytes, write_json


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["rgb", "grey", "deep"]))
def test_pngs_are_read_back_by_opencv_bit_for_bit(seed, height, width, kind):
    rng = np.random.default_rng(seed)
    if kind == "rgb":
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    else:
        image = rng.integers(0, 65536, (height, width)).astype(np.uint8 if kind == "grey" else np.uint16)
    decoded = cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1] if kind == "rgb" else decoded, image)


def test_png_refuses_what_it_cannot_hold():
    with pytest.raises(ValueError, match="float64"):
        encode_png(np.zeros((2, 2)))


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_errors_name_the_file(tmp_path):
    for read, content in ((read_json, b"{"), (read_picture, b"no picture"), (read_mask, b"")):
        path = tmp_path / "bad.png"
        write_bytes(path, content)
        with pytest.raises(ValueError, match=r"bad\.png"):
            read(path)
        with pytest.raises(ValueError, match="missing"):
            read(tmp_path / "missing.png")


def test_masks_of_any_kind(tmp_path):
    truth = np.zeros((5, 7), dtype=bool)
    truth[1:3, 2:5] = True
    coloured = np.zeros((5, 7, 4), np.uint8)
    coloured[..., 3] = 255
    coloured[truth, 0] = 9
    for image in (truth.astype(np.uint8) * 255, truth.astype(np.uint8), truth.astype(np.uint16) * 300, coloured):
        write_bytes(tmp_path / "m.png", cv2.imencode(".png", image)[1].tobytes())
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), truth)
