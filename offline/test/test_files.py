from __future__ import annotations

import errno
import hashlib
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core import atomic

from offline.files import encode_png, read_json, read_mask, read_picture, write_bytes, write_json


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


def test_the_bytes_of_a_picture_depend_on_its_pixels_alone():
    """Builds are compared by hash, so an encoder whose bytes vary by run or by processor must not come back."""
    steps = np.random.default_rng(0).integers(-2, 3, (480, 640, 3))
    digest = hashlib.sha256(encode_png(np.cumsum(steps, axis=1).astype(np.uint8))).hexdigest()
    assert digest == "45dafe9c35575de4ff416427c86849ece06f012f849ca7026ecc037e48dcd689"


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
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


def png(image, filters, chunks=()):
    """A PNG of (H, W) uint8 whose row k is filtered by ``filters[k]`` (0 None, 1 Sub, 2 Up), with ``chunks`` between
    header and picture."""
    rows = []
    for k, row in enumerate(image):
        above = image[k - 1] if k else np.zeros_like(row)
        change = (row, np.diff(row, prepend=np.uint8(0)), row - above)[filters[k]]
        rows.append(bytes([filters[k]]) + change.tobytes())
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 0, 0, 0, 0)
    data = zlib.compress(b"".join(rows))
    cut = len(data) // 2  # in two parts, as long ones come
    parts = ((b"IHDR", header), *chunks, (b"IDAT", data[:cut]), (b"IDAT", data[cut:]), (b"IEND", b""))
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_masks_are_those_that_opencv_decodes(tmp_path_factory, data):
    """Any filters, any values, other chunks, and damage anywhere: the same mask, or both refuse."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    image = rng.integers(0, 256, shape, dtype=np.uint8) * (rng.random(shape) < rng.random()).astype(np.uint8)
    image[rng.random(shape[0]) < 0.5] = 0
    only_sub = data.draw(st.booleans())
    filters = np.ones(shape[0], int) if only_sub else rng.integers(0, 3, shape[0])
    content = bytearray(png(image, filters, data.draw(st.sampled_from([(), [(b"tEXt", b"a\0b")]]))))
    damage = data.draw(st.sampled_from(["none", "none", "flip", "cut", "more"]))
    if damage == "flip":
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif damage == "cut":
        content = content[: data.draw(st.integers(1, len(content) - 1))]
    elif damage == "more":
        content += b"more"
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    path = tmp_path_factory.getbasetemp() / "mask.png"
    path.write_bytes(content)
    if decoded is None:
        with pytest.raises(ValueError, match=r"mask\.png"):
            read_mask(path)
        return
    np.testing.assert_array_equal(read_mask(path), decoded > 0 if decoded.ndim == 2 else decoded[..., :3].any(axis=2))
    if damage == "none":
        np.testing.assert_array_equal(read_mask(path), image > 0)
