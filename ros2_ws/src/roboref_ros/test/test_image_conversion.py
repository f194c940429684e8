"""Converters against per-pixel decoding by struct, against cv_bridge where there is one, and against encoders."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs", reason="ROS 2 is not in the environment: source setup/env.sh")

import cv2
from roboref_ros import image_conversion
from roboref_ros.compressed_images import decode_rvl
from roboref_ros.image_conversion import (
    COLOR_ENCODINGS,
    DEPTH_ENCODINGS,
    color_from_message,
    cv_bridge,
    depth_from_message,
    image_size,
)
from sensor_msgs.msg import CompressedImage, Image

PIXEL_BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1, "16UC1": 2, "mono16": 2, "32FC1": 4}
YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")
BAYER = ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8")
PIXEL_BYTES |= dict.fromkeys(YUV, 2) | dict.fromkeys(BAYER, 1)
# Which bytes of a pixel are red, green and blue: sensor_msgs/image_encodings.
RGB = {
    "rgb8": (0, 1, 2),
    "bgr8": (2, 1, 0),
    "rgba8": (0, 1, 2),
    "bgra8": (2, 1, 0),
    "mono8": (0, 0, 0),
    "8UC1": (0, 0, 0),
}


@st.composite
def raw_images(draw, encodings):
    encoding = draw(st.sampled_from(encodings))
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    if encoding in YUV + BAYER:
        height, width = 2 * height, 2 * width
    step = width * PIXEL_BYTES[encoding] + draw(st.integers(0, 9))
    data = draw(st.binary(min_size=step * height, max_size=step * height + 3))
    return Image(
        height=height, width=width, encoding=encoding, step=step, data=data, is_bigendian=draw(st.integers(0, 1))
    )


def by_pixel(message: Image) -> list:
    """The definition of sensor_msgs/Image, one pixel at a time: bytes of a colour pixel, metres of a depth pixel."""
    data, size, order = bytes(message.data), PIXEL_BYTES[message.encoding], "<>"[message.is_bigendian]
    rows = []
    for v in range(message.height):
        pixels = [data[v * message.step + u * size :][:size] for u in range(message.width)]
        if message.encoding in ("16UC1", "mono16"):
            rows.append([struct.unpack(order + "H", pixel)[0] / 1000 for pixel in pixels])
        elif message.encoding == "32FC1":
            rows.append([struct.unpack(order + "f", pixel)[0] for pixel in pixels])
        else:
            rows.append([[pixel[i] for i in RGB[message.encoding]] for pixel in pixels])
    return rows


@given(raw_images(tuple(RGB)))
def test_raw_colour(message):
    image = color_from_message(message)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert image.tolist() == by_pixel(message)


@given(raw_images(DEPTH_ENCODINGS))
def test_raw_depth(message):
    image = depth_from_message(message)
    assert image.dtype == np.float32 and image.dtype.isnative and image.flags.c_contiguous
    expected = np.array(by_pixel(message), dtype=np.float64)
    np.testing.assert_allclose(image, expected, rtol=2e-7, atol=0)


def test_every_encoding_is_drawn():
    assert set(PIXEL_BYTES) == set(COLOR_ENCODINGS + DEPTH_ENCODINGS)


@pytest.fixture(scope="module")
def bridge():
    pytest.importorskip("cv_bridge", reason="ROS's cv_bridge is not installed here")
    assert cv_bridge() is not None, "an installed cv_bridge must be sound"
    return cv_bridge()


@given(raw_images((*RGB, *DEPTH_ENCODINGS)))
@settings(max_examples=500)
def test_ours_equals_cv_bridge(bridge, message):
    convert = color_from_message if message.encoding in COLOR_ENCODINGS else depth_from_message
    used = convert(message)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_conversion, "cv_bridge", lambda: None)
        ours = convert(message)
    np.testing.assert_array_equal(used, ours)
    assert used.dtype == ours.dtype and used.shape == ours.shape


@given(raw_images(("yuv422", "yuv422_yuy2", *BAYER)))
def test_colours_that_are_computed_are_cv_bridges(bridge, message):
    """These never go through it. The outermost pixels of a Bayer pattern have no neighbours to be computed from."""
    message.is_bigendian = 0
    message.step = message.width * PIXEL_BYTES[message.encoding]
    inner = slice(1, -1) if message.encoding in BAYER else slice(None)
    theirs = bridge.imgmsg_to_cv2(message, "rgb8")[inner, inner]
    np.testing.assert_array_equal(color_from_message(message)[inner, inner], theirs)


class ForeignBridge:
    """A cv_bridge that truncates 16-bit images to 8, as the one on PyPI does."""

    def imgmsg_to_cv2(self, message, desired_encoding):
        data = np.frombuffer(message.data, np.uint8)
        return data.reshape(message.height, -1)[:, : message.width]


def test_a_cv_bridge_that_gives_wrong_pixels_is_not_used(monkeypatch):
    module = type(image_conversion)("cv_bridge")
    module.CvBridge = ForeignBridge
    monkeypatch.setitem(__import__("sys").modules, "cv_bridge", module)
    cv_bridge.cache_clear()
    try:
        assert cv_bridge() is None
        message = Image(height=1, width=1, encoding="16UC1", step=2, data=struct.pack("<H", 2500))
        assert depth_from_message(message).tolist() == [[2.5]]
    finally:
        cv_bridge.cache_clear()


@pytest.mark.parametrize(
    "fields, complaint",
    [
        ({"encoding": "8UC3"}, "RGB or BGR"),
        ({"width": 0}, "empty"),
        ({"height": 0}, "empty"),
        ({"step": 5}, "step is 5"),
        ({"step": 7}, "data holds 12"),
    ],
)
def test_headers_that_do_not_describe_their_data(fields, complaint):
    good = {"height": 2, "width": 2, "encoding": "rgb8", "step": 6, "data": bytes(12)}
    assert color_from_message(Image(**good)).shape == (2, 2, 3)
    with pytest.raises(ValueError, match=complaint):
        color_from_message(Image(**good | fields))


def test_colour_is_no_depth_and_depth_no_colour():
    with pytest.raises(ValueError, match="rgb8"):
        depth_from_message(Image(height=1, width=1, encoding="rgb8", step=3, data=bytes(3)))
    with pytest.raises(ValueError, match="16UC1"):
        color_from_message(Image(height=1, width=1, encoding="16UC1", step=2, data=bytes(2)))


def gradient() -> np.ndarray:
    v, u = np.mgrid[:48, :64]
    return np.stack([u * 4, v * 5, 255 - u * 3], axis=2).astype(np.uint8)


def compressed(extension: str, bgr: np.ndarray, image_format: str, before: bytes = b"") -> CompressedImage:
    return CompressedImage(format=image_format, data=before + cv2.imencode(extension, bgr)[1].tobytes())


def test_compressed_colour():
    rgb = gradient()
    png = compressed(".png", rgb[..., ::-1], "rgb8; png compressed bgr8")
    np.testing.assert_array_equal(color_from_message(png), rgb)
    jpeg = color_from_message(compressed(".jpg", rgb[..., ::-1], "rgb8; jpeg compressed bgr8"))
    assert np.abs(jpeg.astype(int) - rgb).mean() < 3
    grey = color_from_message(compressed(".png", rgb[..., 0], "mono8; png compressed"))
    np.testing.assert_array_equal(grey, np.repeat(rgb[..., :1], 3, axis=2))


def test_a_jpeg_is_not_turned_by_its_orientation_tag():
    """A picture turned against its camera info would give wrong rays; 6 asks viewers to turn it by 90 degrees."""
    plain = compressed(".jpg", gradient()[..., ::-1], "jpeg")
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    data = bytes(plain.data)
    turned = CompressedImage(format="jpeg", data=data[:2] + exif + data[2:])
    assert cv2.imdecode(np.frombuffer(turned.data, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3), "a viewer turns"
    np.testing.assert_array_equal(color_from_message(turned), color_from_message(plain))


@pytest.mark.parametrize("image_format", ["16UC1; compressedDepth png", "16UC1; compressedDepth", "16UC1"])
def test_compressed_depth_of_millimetres(image_format):
    millimetres = np.array([[0, 1, 700], [2500, 9999, 65535]], dtype=np.uint16)
    message = compressed(".png", millimetres, image_format, before=struct.pack("<iff", 0, 0, 0))
    np.testing.assert_allclose(depth_from_message(message), millimetres / 1000, rtol=2e-7)
    plain = compressed(".png", millimetres, "16UC1; png compressed")
    np.testing.assert_array_equal(depth_from_message(plain), depth_from_message(message))


def test_compressed_depth_of_floats_is_inverse_depth():
    """Written as compressed_depth_image_transport's encoder defines it, with its default parameters."""
    depth = np.array([[0.5, 1.0, 2.0], [4.0, np.nan, 20.0]], dtype=np.float32)
    z0, z_max = 100.0, 10.0
    a = z0 * (z0 + 1)
    b = 1 - a / z_max
    with np.errstate(invalid="ignore"):
        inverse = np.where(depth < z_max, a / depth + b, 0).astype(np.uint16)
    message = compressed(".png", inverse, "32FC1; compressedDepth png", before=struct.pack("<iff", 0, a, b))
    decoded = depth_from_message(message)
    assert decoded.dtype == np.float32
    # One step of the quantiser is z^2 / a.
    np.testing.assert_allclose(decoded[np.isfinite(decoded)], [0.5, 1.0, 2.0, 4.0], atol=4.0**2 / a)
    assert np.isnan(decoded[1, 1:]).all()


def png_of(dtype) -> bytes:
    return cv2.imencode(".png", np.zeros((2, 2), dtype))[1].tobytes()


@pytest.mark.parametrize(
    "image_format, data, complaint",
    [
        ("16UC1; compressedDepth rvl", bytes(40), "rvl"),
        ("16UC1; compressedDepth rvl", bytes(12) + struct.pack("<ii", 2, 2), "ends after 0 of 4"),
        ("16UC1; compressedDepth rvl", bytes(12) + struct.pack("<ii", 30000, 30000), "at most"),
        ("jpeg", bytes(40), "jpeg"),
        ("16UC1; compressedDepth png", bytes(40), "not a PNG"),
        ("16UC1; compressedDepth png", b"", "0 bytes"),
        (
            "16UC1; compressedDepth png",
            bytes(12) + cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes(),
            "uint8",
        ),
        ("32FC1; png compressed", cv2.imencode(".png", np.zeros((2, 2), np.uint16))[1].tobytes(), "header"),
    ],
)
def test_compressed_depth_that_cannot_be_read(image_format, data, complaint):
    with pytest.raises(ValueError, match=complaint):
        depth_from_message(CompressedImage(format=image_format, data=data))


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\xff\xd8\xff\xe0"])
def test_compressed_colour_that_cannot_be_read(data):
    with pytest.raises(ValueError, match=r"JPEG|header is cut"):
        color_from_message(CompressedImage(format="jpeg", data=data))


def picture_of_squares() -> np.ndarray:
    """Squares of plain colours: chroma subsampling and Bayer patterns change their edges only."""
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(40, 216, (6, 8, 3)), np.ones((8, 8, 1), int)).astype(np.uint8)


@pytest.mark.parametrize("encoding", [name for name in COLOR_ENCODINGS if name not in RGB])
def test_camera_encodings(encoding):
    """Written as sensor_msgs/image_encodings describes them, read to within their own loss."""
    rgb = picture_of_squares()
    height, width = rgb.shape[:2]
    if encoding.startswith("bayer"):
        pixels = np.empty((height, width), np.uint8)
        for k, channel in enumerate(encoding.split("_")[1][:4]):
            pixels[k // 2 :: 2, k % 2 :: 2] = rgb[k // 2 :: 2, k % 2 :: 2, "rgb".index(channel)]
        step = width
    else:
        yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
        luma, chroma = (1, 0) if encoding in ("yuv422", "uyvy") else (0, 1)
        pixels = np.empty((height, width, 2), np.uint8)
        pixels[..., luma] = 16 + yuv[..., 0] * (219 / 255)
        # OpenCV reads limited range; its YUV has other chroma gains than BT.601's digital form.
        blue, red = rgb[..., 2].astype(float), rgb[..., 0].astype(float)
        y = rgb @ (0.299, 0.587, 0.114)
        pixels[:, 0::2, chroma] = (128 + 0.564 * (blue - y) * 224 / 255)[:, 0::2]
        pixels[:, 1::2, chroma] = (128 + 0.713 * (red - y) * 224 / 255)[:, 0::2]
        step = 2 * width
    message = Image(height=height, width=width, encoding=encoding, step=step, data=pixels.tobytes())
    found = color_from_message(message)
    middle = np.s_[3::8, 3::8]
    np.testing.assert_allclose(found[middle].astype(int), rgb[middle].astype(int), atol=6)


def rvl(values: np.ndarray) -> bytes:
    """The encoder of Wilson's RVL, one value at a time."""
    nibbles, previous = [], 0

    def write(number: int) -> None:
        while True:
            low, number = number & 7, number >> 3
            nibbles.append(low | (8 if number else 0))
            if not number:
                return

    flat, i = values.ravel().tolist(), 0
    while i < len(flat):
        zeros = i
        while i < len(flat) and flat[i] == 0:
            i += 1
        write(i - zeros)
        start = i
        while i < len(flat) and flat[i] != 0:
            i += 1
        write(i - start)
        for value in flat[start:i]:
            delta, previous = value - previous, value
            write((delta << 1) ^ (delta >> 63))
    nibbles += [0] * (-len(nibbles) % 8)
    words = [sum(n << (28 - 4 * k) for k, n in enumerate(nibbles[j : j + 8])) for j in range(0, len(nibbles), 8)]
    return struct.pack(f"<{len(words)}I", *words)


@given(st.lists(st.sampled_from([0, 0, 0, 1, 700, 702, 65535]) | st.integers(0, 65535), min_size=1, max_size=60))
def test_rvl_depth(values):
    millimetres = np.array(values, np.uint16)[None]
    data = struct.pack("<iff", 0, 0, 0) + struct.pack("<ii", len(values), 1) + rvl(millimetres)
    message = CompressedImage(format="16UC1; compressedDepth rvl", data=data)
    np.testing.assert_allclose(depth_from_message(message), millimetres / 1000, rtol=2e-7)


@given(st.binary(max_size=80), st.integers(1, 200))
def test_any_rvl_data_is_read_or_refused(data, count):
    try:
        assert decode_rvl(data, count).shape == (count,)
    except ValueError as error:
        assert "RVL" in str(error)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def broken_chunk() -> bytes:
    """One flipped bit in a chunk's length makes decoders allocate gigabytes."""
    data = bytearray(cv2.imencode(".png", np.zeros((20, 20), np.uint16))[1].tobytes())
    data[data.index(b"IDAT") - 4] ^= 0xC0
    return bytes(data)


@pytest.mark.parametrize("data, complaint", [(png_claiming(20000, 20000), "at most"), (broken_chunk(), "runs past")])
@pytest.mark.parametrize("depth", [False, True])
def test_bombs_are_refused_before_they_are_decoded(monkeypatch, data, complaint, depth):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    message = CompressedImage(format="16UC1; compressedDepth png" if depth else "png", data=data)
    with pytest.raises(ValueError, match=complaint):
        (depth_from_message if depth else color_from_message)(message)


def test_a_jpeg_of_endless_scans_is_refused(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    plain = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match="scans"):
        color_from_message(CompressedImage(format="jpeg", data=plain + b"\xff\xda" * 200))


@pytest.mark.parametrize(
    "extension, options", [(".png", []), (".jpg", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])]
)
@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_sizes_are_read_from_headers(extension, options, size):
    data = cv2.imencode(extension, np.zeros((*size, 3), np.uint8), options)[1].tobytes()
    assert image_size(CompressedImage(format="any", data=data), depth=False) == size


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([".png", ".jpg"]), st.integers(0, 10**6), st.binary(min_size=1, max_size=6), st.integers(0, 10**6)
)
def test_any_corruption_is_read_or_refused(extension, at, noise, cut):
    data = bytearray(cv2.imencode(extension, picture_of_squares())[1].tobytes())
    data[at % len(data) :][: len(noise)] = noise
    data = bytes(data[: at % len(data)] + noise + data[at % len(data) + len(noise) :])[: len(data) - cut % 9]
    try:
        color_from_message(CompressedImage(format="any", data=data))
    except ValueError:
        pass
