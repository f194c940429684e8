from __future__ import annotations

import struct

import numpy as np
import pytest

from offline.data_engine.sources.mesh import read_ply

VERTICES = np.array([[0, 0, 0], [1, 0, 0.5], [0, 1, 0], [1, 1, -2]], np.float32)
FACES = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
COLORS = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [250, 251, 252]], np.uint8)


def scannet_ply(vertices=VERTICES, faces=FACES, colors=COLORS, faces_name="vertex_indices") -> bytes:
    """A PLY as ScanNet writes it, byte by byte."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment VCGLIB generated\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nproperty uchar alpha\n"
        f"element face {len(faces)}\nproperty list uchar int {faces_name}\nend_header\n"
    )
    body = b"".join(struct.pack("<3f4B", *v, *c, 255) for v, c in zip(vertices, colors, strict=True))
    body += b"".join(struct.pack("<B", len(f)) + struct.pack(f"<{len(f)}i", *f) for f in faces)
    return header.encode() + body


@pytest.mark.parametrize("name", ["vertex_indices", "vertex_index"])
def test_binary_mesh(tmp_path, name):
    path = tmp_path / "m.ply"
    path.write_bytes(scannet_ply(faces_name=name))
    mesh = read_ply(path)
    np.testing.assert_array_equal(mesh.vertices, VERTICES)
    np.testing.assert_array_equal(mesh.faces, FACES)
    np.testing.assert_array_equal(mesh.colors, COLORS)
    assert (mesh.vertices.dtype, mesh.faces.dtype, mesh.colors.dtype) == (np.float32, np.int32, np.uint8)


def test_ascii_mesh_without_colour(tmp_path):
    path = tmp_path / "m.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty double x\nproperty double y\nproperty double z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    )
    mesh = read_ply(path)
    assert mesh.colors is None
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2]])


@pytest.mark.parametrize(
    "data",
    [
        b"not a ply",
        scannet_ply()[:-5],
        scannet_ply()[:-40],
        scannet_ply(faces=[[0, 1, 2, 3]]),
        scannet_ply(faces=[[0, 1, 4]]),
        scannet_ply(faces=[[0, 1, -1]]),
        b"",
        scannet_ply().replace(b"property float z\n", b""),
    ],
)
def test_damaged_mesh_is_refused_by_name(tmp_path, data):
    path = tmp_path / "broken.ply"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"broken\.ply"):
        read_ply(path)
