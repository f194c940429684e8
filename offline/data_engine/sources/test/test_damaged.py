"""Whatever bytes a file holds, its reader gives what it can or a ValueError that names the file."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offline.data_engine.sources.arkit_depth import ArkitDepth
from offline.data_engine.sources.colmap import read_cameras, read_images
from offline.data_engine.sources.damaged import MAX_PIXELS
from offline.data_engine.sources.images import decode_color, decode_depth
from offline.data_engine.sources.instances import read_instances
from offline.data_engine.sources.labels import LabelTable
from offline.data_engine.sources.layouts import _file_list, _read_info, _table
from offline.data_engine.sources.mesh import read_ply
from offline.data_engine.sources.scannetpp import _read_arkit
from offline.data_engine.sources.sens import SensScene
from offline.data_engine.sources.test.sens_bytes import header, picture, sens
from offline.data_engine.sources.test.test_mesh import scannet_ply
from offline.files import encode_png

SEGMENTS = json.dumps({"segIndices": [0, 0, 1, 1]}).encode()
GROUPS = json.dumps({"segGroups": [{"objectId": 0, "segments": [0], "label": "chair"}]}).encode()


def read_sens(path: Path) -> None:
    scene = SensScene(path, salvage=True)
    for i in range(min(len(scene), 2)):
        for read in (scene.color, scene.depth):
            try:
                read(i)
            except ValueError as error:
                assert str(path) in str(error)
    scene.close()


def groups(path: Path) -> None:
    segments = path.with_name("segments.json")
    segments.write_bytes(SEGMENTS)
    read_instances(segments, path, 4)


def picture_of(decode: Callable) -> Callable[[Path], object]:
    return lambda path: decode(path.read_bytes(), str(path))


READERS: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "sens": (sens(2), read_sens),
    "ply": (scannet_ply(), read_ply),
    "colmap cameras": (b"# cameras\n1 OPENCV 192 144 160 161 96.5 72.5 0.01 -0.02 0.001 0.002\n", read_cameras),
    "colmap images": (b"1 1 0 0 0 0.5 0 2 1 frame_000000.jpg\n\n", read_images),
    "segments": (SEGMENTS, lambda path: read_instances(path, path.with_name("groups.json"), 4)),
    "groups": (GROUPS, groups),
    "arkit json": (json.dumps({"frame_000000": {"timestamp": 1.0}}).encode(), _read_arkit),
    "label table": (b"id\traw_category\tcategory\tnyu40id\n1\tchair\tchair\t5\n", LabelTable.read),
    "tum trajectory": (b"# t x y z\n1.0 0 0 0 0 0 0 1\n", lambda path: _table(path, 8)),
    "tum files": (b"1305031102.175304 rgb/1.png\n", _file_list),
    "info": (b"m_colorWidth = 640\n", _read_info),
    "colour": (encode_png(picture(1)), picture_of(decode_color)),
    "depth": (b"P5\n# counts\n4 2\n65535\n" + bytes(16), picture_of(decode_depth)),
    "arkit depth": (struct.pack("<I", 9) + b"123456789", lambda path: ArkitDepth(path).metres(0, "frame 0")),
}


EXTREMES = (b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"9" * 20, b"1e999", b"nan", b"\xc3", b"-")


def damage(data: st.DataObject, whole: bytes) -> bytes:
    """Flipped bytes, extreme integers in place of others, cut ends, or text where none belongs."""
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(changed) - 1, 0)))
        extreme = st.sampled_from(
            [b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"9" * 20, b"1e999", b"nan", b"\xc3", b"-"]
        )
        piece = data.draw(st.one_of(st.binary(min_size=1, max_size=8), extreme))
        changed[at : at + len(piece)] = piece
    return bytes(changed[: data.draw(st.sampled_from([len(changed), len(changed), len(changed) // 2]))])


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_is_named_or_harmless(name, data):
    whole, read = READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a file"
        path.write_bytes(damage(data, whole))
        path.with_name("groups.json").write_bytes(GROUPS)
        try:
            read(path)
        except ValueError as error:
            assert folder in str(error)


@pytest.mark.parametrize("name", ["segments", "groups", "arkit json"])
@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"1" * 5000, b"null", b"[]"])
def test_json_of_any_shape_is_named(tmp_path, name, text):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"a\.json"):
        READERS[name][1](path)


@pytest.mark.parametrize("count", [10**6, 2**31, 2**63, 10**25])
@pytest.mark.parametrize("element", [b"vertex 4", b"face 2"])
def test_a_mesh_cannot_have_more_elements_than_bytes(tmp_path, element, count):
    path = tmp_path / "a.ply"
    name = element.split()[0]
    path.write_bytes(scannet_ply().replace(b"element " + element, b"element %s %d" % (name, count)))
    with pytest.raises(ValueError, match=r"a\.ply.*cannot hold"):
        read_ply(path)


@pytest.mark.parametrize("fields", [{"color_size": (2**32 - 1, 2**32 - 1)}, {"depth_size": (2**31, 2**31)}])
def test_sizes_of_a_sens_are_bounded(tmp_path, fields):
    path = tmp_path / "a.sens"
    path.write_bytes(header(0, **fields))
    with pytest.raises(ValueError, match=f"a.sens.*{MAX_PIXELS} pixels"):
        SensScene(path)


def test_a_sens_of_endless_frames_is_truncated(tmp_path):
    path = tmp_path / "a.sens"
    path.write_bytes(header(2**64 - 1))
    with pytest.raises(ValueError, match=r"a\.sens: truncated"):
        SensScene(path)


def test_a_picture_that_states_too_many_pixels_is_not_decoded():
    png = bytearray(encode_png(np.zeros((4, 4), np.uint8)))
    struct.pack_into(">II", png, 16, 2**20, 2**20)
    for decode, data in ((decode_color, bytes(png)), (decode_depth, b"P5 999999 999999 65535\n")):
        with pytest.raises(ValueError, match=r"frame 7.*expected at most"):
            decode(data, "frame 7")


@pytest.mark.parametrize("stamp", ["99999999999999999999", "-1e20", "1e999999999", "nan", "inf", "x"])
def test_a_stamp_that_64_bits_do_not_hold_is_named(tmp_path, stamp):
    path = tmp_path / "rgb.txt"
    path.write_text(f"# comment\n{stamp} rgb/1.png\n")
    with pytest.raises(ValueError, match=r"rgb\.txt line 2: expected a stamp"):
        _file_list(path)
