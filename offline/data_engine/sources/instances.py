"""Object annotations over a mesh: `segs.json` names a segment per vertex, an aggregation groups segments to objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from offline.data_engine.sources.base import Instances

# Share of an aggregation's segments that may be absent from the segmentation; more means it was made for another mesh.
_MAX_ABSENT_SEGMENTS = 0.1
_FULL_RESOLUTION = "_vh_clean.segs.json"


def read_instances(segments: Path, aggregation: Path, num_vertices: int) -> tuple[Instances, dict[str, int]]:
    """Read a ScanNet segmentation and its aggregation.

    Args:
        segments: `<scan>_vh_clean_2.0.010000.segs.json`.
        aggregation: `<scan>.aggregation.json`.
        num_vertices: vertices of the mesh that the two belong to.

    Returns:
        instances: ids are objectId + 1; where objects share segments the later one has them.
        defects: counts of "duplicate_objects" (same segments as an earlier object, dropped) and "absent_segments"
            (named by an object, borne by no vertex), absent where zero.

    Raises:
        ValueError: a file is damaged, or the two belong to another mesh (ScanNet's full-resolution mesh has files
            of the same kind).
    """
    segment_of_vertex = _segment_indices(segments)
    if len(segment_of_vertex) != num_vertices:
        raise ValueError(
            f"{segments}: segIndices has {len(segment_of_vertex)} entries, the mesh {num_vertices} vertices: "
            "these segments belong to another mesh"
        )
    names, index_of_vertex = np.unique(segment_of_vertex, return_inverse=True)
    instance_of_segment = np.zeros(len(names), dtype=np.int32)
    labels: dict[int, str] = {}
    seen: set[frozenset[int]] = set()
    listed = absent = duplicates = 0
    for object_id, members, label in _groups(aggregation):
        if members in seen:
            duplicates += 1
            continue
        seen.add(members)
        if object_id + 1 in labels:
            raise ValueError(f"{aggregation}: objectId {object_id} is used by two objects with different segments")
        wanted = np.fromiter(members, dtype=np.int64, count=len(members))
        at = np.searchsorted(names, wanted)
        present = (at < len(names)) & (names[np.minimum(at, len(names) - 1)] == wanted) if len(names) else wanted < 0
        instance_of_segment[at[present]] = object_id + 1
        labels[object_id + 1] = label
        listed += len(wanted)
        absent += int((~present).sum())
    if absent > _MAX_ABSENT_SEGMENTS * listed:
        raise ValueError(
            f"{aggregation}: {absent} of its {listed} segments are not in {segments.name}: it belongs to another mesh"
        )
    defects = {"duplicate_objects": duplicates, "absent_segments": absent}
    return (
        Instances(instance_of_segment[index_of_vertex.reshape(-1)], labels),
        {reason: count for reason, count in defects.items() if count},
    )


def _segment_indices(path: Path) -> np.ndarray:
    data = _read_object(path)
    try:
        indices = np.asarray(data["segIndices"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected segIndices, one segment per vertex: {error!r}") from error
    if indices.ndim != 1 or (indices.size and indices.dtype.kind != "i"):
        raise ValueError(
            f"{path}: segIndices must be a list of integers, found {indices.dtype} of shape {indices.shape}"
        )
    return indices.astype(np.int64)


def _groups(path: Path) -> list[tuple[int, frozenset[int], str]]:
    data = _read_object(path)
    if str(data.get("segmentsFile", "")).endswith(_FULL_RESOLUTION):
        raise ValueError(f"{path}: made for {data['segmentsFile']}, the full-resolution mesh, not for _vh_clean_2")
    try:
        return [
            (int(group["objectId"]), frozenset(int(s) for s in group["segments"]), str(group["label"]).strip())
            for group in data["segGroups"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected segGroups with objectId, segments and label: {error!r}") from error


def _read_object(path: Path) -> dict:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data
