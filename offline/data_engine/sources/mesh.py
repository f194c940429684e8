"""Triangle meshes from PLY files (ScanNet's `_vh_clean_2.ply`, ScanNet++'s `mesh_aligned_0.05.ply`)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyParseError
from roboref_core.scene import Mesh

from offline.data_engine.sources.damaged import naming

_MAX_HEADER = 1 << 20
_ELEMENT = re.compile(rb"^element[ \t]+(\S+)[ \t]+(\d{1,30})", re.MULTILINE)


def read_ply(path: str | Path) -> Mesh:
    """Read a PLY triangle mesh, binary or ASCII; colours if it has red, green, blue as uchar.

    Raises ValueError naming the file if it is truncated, has no vertices or faces that are not triangles, or refers
    to vertices it does not have.
    """
    path = Path(path)
    _check_counts(path)
    with naming(path):
        return _mesh(path)


def _check_counts(path: Path) -> None:
    """Raise ValueError if the header states more elements than a file of this size can hold, a byte each at least."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_MAX_HEADER)
    for name, count in _ELEMENT.findall(head.partition(b"end_header")[0]):
        if int(count) > size:
            text = name.decode("ascii", "replace")
            raise ValueError(f"{path}: {int(count)} elements of {text}, which a file of {size} bytes cannot hold")


def _mesh(path: Path) -> Mesh:
    try:
        ply = PlyData.read(str(path), known_list_len={"face": {"vertex_indices": 3, "vertex_index": 3}})
    except (PlyParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable PLY triangle mesh: {error}") from error
    elements = {element.name: element for element in ply.elements}
    if "vertex" not in elements or "face" not in elements:
        raise ValueError(f"{path}: expected the elements vertex and face, found {', '.join(elements) or 'none'}")
    vertex, face = elements["vertex"], elements["face"]
    names = {p.name for p in vertex.properties}
    if not {"x", "y", "z"} <= names:
        raise ValueError(f"{path}: vertices have no x, y, z, only {', '.join(sorted(names))}")
    indices = next((p.name for p in face.properties if p.name in ("vertex_indices", "vertex_index")), None)
    if indices is None:
        raise ValueError(f"{path}: faces have no vertex_indices")
    vertices = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float32)
    faces = np.stack(list(face[indices])) if face.data.dtype[indices] is np.dtype(object) else np.asarray(face[indices])
    faces = faces.reshape(-1, 3)
    if faces.size and not (0 <= faces.min() and faces.max() < len(vertices)):
        raise ValueError(f"{path}: faces refer to vertices {faces.min()}..{faces.max()}, there are {len(vertices)}")
    colors = None
    if {"red", "green", "blue"} <= names and vertex["red"].dtype == np.uint8:
        colors = np.stack([vertex[c] for c in ("red", "green", "blue")], axis=1)
    return Mesh(vertices, faces.astype(np.int32), colors)
