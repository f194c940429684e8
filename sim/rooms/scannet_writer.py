"""Writes a simulated scan as ScanNet v2 lays it out: `.sens`, mesh, segments, aggregation, labels, metadata."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from roboref_core.atomic import write_bytes, write_text
from roboref_core.scene import Mesh

from sim.rooms.labels import LABELS, label_table
from sim.rooms.scene import Geometry
from sim.rooms.sens_writer import write_sens
from sim.rooms.sim_source import SimSource

LABEL_FILE = "scannetv2-labels.combined.tsv"
_SEGMENT_CELL = 0.5
_OTHER_PROP = 40


def write_scene(source: SimSource, out_dir: Path | str, *, on_frame: Callable[[int], None] | None = None) -> Path:
    """Write one scan and the label table.

    Args:
        source: the scan; its cameras must be free of distortion.
        out_dir: gets `scannetv2-labels.combined.tsv` and `<scan>/`.
        on_frame: called with the number of frames written so far.

    Returns:
        The scan's folder. Every file appears under its name only when complete; `.sens` is the last.
    """
    out_dir = Path(out_dir)
    scan = source.scene_id
    folder = out_dir / scan
    folder.mkdir(parents=True, exist_ok=True)
    geometry, mesh = source.scene.geometry, source.mesh()
    segments = segment_ids(geometry)
    write_text(out_dir / LABEL_FILE, label_table())
    write_bytes(folder / f"{scan}_vh_clean_2.ply", ply_bytes(mesh))
    # Things of other asset groups have no row in the table.
    nyu40 = {i: LABELS[label].nyu40id if label in LABELS else _OTHER_PROP for i, label in source.scene.labels.items()}
    nyu40_of_vertex = np.array([nyu40.get(int(i), 0) for i in range(geometry.vertex_object.max() + 1)], dtype=np.uint16)
    labels = nyu40_of_vertex[geometry.vertex_object]
    legend = Mesh(mesh.vertices, mesh.faces, _legend()[labels])
    write_bytes(folder / f"{scan}_vh_clean_2.labels.ply", ply_bytes(legend, labels))
    segments_name = f"{scan}_vh_clean_2.0.010000.segs.json"
    write_text(folder / segments_name, json.dumps(_segments(scan, segments)))
    write_text(folder / f"{scan}.aggregation.json", json.dumps(_aggregation(source, segments, segments_name)))
    write_text(folder / f"{scan}.txt", metadata_text(source))
    write_sens(source, folder / f"{scan}.sens", on_frame=on_frame)
    return folder


def ply_bytes(mesh: Mesh, labels: np.ndarray | None = None) -> bytes:
    """A mesh as binary little-endian PLY with ScanNet's properties, with a ushort label per vertex if given."""
    fields = [("xyz", "<f4", 3), ("rgba", "u1", 4)] + ([("label", "<u2")] if labels is not None else [])
    vertices = np.empty(len(mesh.vertices), dtype=fields)
    vertices["xyz"] = mesh.vertices
    vertices["rgba"][:, :3], vertices["rgba"][:, 3] = mesh.colors, 255
    if labels is not None:
        vertices["label"] = labels
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("indices", "<i4", 3)])
    faces["count"], faces["indices"] = 3, mesh.faces
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uchar {channel}" for channel in ("red", "green", "blue", "alpha")]
    header += ["property ushort label"] if labels is not None else []
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    return ("\n".join(header) + "\n").encode() + vertices.tobytes() + faces.tobytes()


def segment_ids(geometry: Geometry) -> np.ndarray:
    """(V,) int segment of each vertex: pieces of one part that face one way within half a metre.

    As in ScanNet an id is the index of one of the segment's own vertices, so ids are sparse.
    """
    facing = np.abs(geometry.normals).argmax(axis=1)
    cell = np.floor(geometry.local / _SEGMENT_CELL).astype(np.int64)
    keys = np.column_stack([geometry.vertex_part, facing, cell])
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first[which.ravel()]


def _segments(scan: str, segments: np.ndarray) -> dict:
    params = {
        "kThresh": "0.0001",
        "segMinVerts": "20",
        "minPoints": "750",
        "maxPoints": "30000",
        "thinThresh": "0.05",
        "flatThresh": "0.001",
        "minLength": "0.02",
        "maxLength": "1",
    }
    return {"params": params, "sceneId": f"scannet.{scan}", "segIndices": segments.tolist()}


def _aggregation(source: SimSource, segments: np.ndarray, segments_name: str) -> dict:
    owner = source.scene.geometry.vertex_object
    groups = []
    for object_id, label in sorted(source.scene.labels.items()):
        own = np.unique(segments[owner == object_id]).tolist()
        groups.append({"id": object_id - 1, "objectId": object_id - 1, "segments": own, "label": label})
    return {
        "sceneId": f"scannet.{source.scene_id}",
        "appId": "Aggregator.v2",
        "segGroups": groups,
        "segmentsFile": f"scannet.{segments_name}",
    }


def metadata_text(source: SimSource) -> str:
    """The scan's `.txt`: `key = value` lines in ScanNet's order."""
    c, d = source.color_camera, source.depth_camera
    pairs: dict[str, object] = {"axisAlignment": "".join(f"{x:.6f} " for x in source.axis_alignment.ravel())}
    pairs |= {"colorHeight": c.height, "colorWidth": c.width, "depthHeight": d.height, "depthWidth": d.width}
    for name, of in (("fx", "fx"), ("fy", "fy"), ("mx", "cx"), ("my", "cy")):
        pairs |= {f"{name}_color": f"{getattr(c, of):.6f}", f"{name}_depth": f"{getattr(d, of):.6f}"}
    pairs["colorToDepthExtrinsics"] = "".join(f"{x:.6f} " for x in np.eye(4).ravel())
    pairs |= {"numColorFrames": len(source), "numDepthFrames": len(source)}
    pairs["sceneType"] = source.scene.scene_type
    return "".join(f"{key} = {value}\n" for key, value in pairs.items())


def _legend() -> np.ndarray:
    """(41, 3) uint8: a colour for each NYU40 class, black for none."""
    hues = [colorsys.hsv_to_rgb(k * 0.618034 % 1.0, 0.45 + 0.15 * (k % 3), 0.95 - 0.12 * (k % 4)) for k in range(1, 41)]
    return np.round(np.array([(0, 0, 0), *hues]) * 255).astype(np.uint8)
