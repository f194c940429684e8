"""Object annotations over a mesh: one file names a segment per vertex, another groups segments to objects."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from roboref_core.scene import Instances

from offline.data_engine.sources.damaged import read_object

# Share of an aggregation's segments that may be absent from the segmentation; more means it was made for another mesh.
_MAX_ABSENT_SEGMENTS = 0.1
_FULL_RESOLUTION = "_vh_clean.segs.json"


def read_instances(
    segments: Path, aggregation: Path, num_vertices: int, *, id_offset: int = 1, smallest_wins: bool = False
) -> tuple[Instances, dict[str, int]]:
    """Read a segmentation and the objects made of its segments.

    Args:
        segments: ScanNet's `<scan>_vh_clean_2.0.010000.segs.json`, ScanNet++'s `segments.json`.
        aggregation: ScanNet's `<scan>.aggregation.json`, ScanNet++'s `segments_anno.json`.
        num_vertices: vertices of the mesh that the two belong to.
        id_offset: instance id = objectId + id_offset (ScanNet numbers objects from 0, ScanNet++ from 1).
        smallest_wins: where objects share a segment, the one with the fewest vertices has it (ScanNet++, where a
            cushion belongs to its sofa too); otherwise the later one (ScanNet's readers).

    Returns:
        instances: one id per vertex.
        defects: counts of "duplicate_objects" (same segments as an earlier object, dropped), "absent_segments"
            (named by an object, borne by no vertex) and "no_object_label" (null or empty: the object has no name),
            absent where zero.

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
    vertices_of_segment = np.bincount(index_of_vertex.reshape(-1), minlength=len(names))
    labels: dict[int, str] = {}
    members_of: dict[int, np.ndarray] = {}
    seen: set[frozenset[int]] = set()
    listed = absent = duplicates = 0
    for object_id, members, label in _groups(aggregation):
        if members in seen:
            duplicates += 1
            continue
        seen.add(members)
        instance = object_id + id_offset
        if instance < 1:
            raise ValueError(f"{aggregation}: objectId {object_id}, expected at least {1 - id_offset}")
        if instance in labels:
            raise ValueError(f"{aggregation}: objectId {object_id} is used by two objects with different segments")
        labels[instance] = label
        wanted = np.fromiter(members, dtype=np.int64, count=len(members))
        present = np.isin(wanted, names)
        members_of[instance] = np.searchsorted(names, wanted[present])
        listed += len(wanted)
        absent += int((~present).sum())
    if absent > _MAX_ABSENT_SEGMENTS * listed:
        raise ValueError(
            f"{aggregation}: {absent} of its {listed} segments are not in {segments.name}: it belongs to another mesh"
        )
    order = list(members_of)
    if smallest_wins:
        order.sort(key=lambda instance: -int(vertices_of_segment[members_of[instance]].sum()))
    instance_of_segment = np.zeros(len(names), dtype=np.int32)
    for instance in order:
        instance_of_segment[members_of[instance]] = instance
    unnamed = sum(not label for label in labels.values())
    defects = {"duplicate_objects": duplicates, "absent_segments": absent, "no_object_label": unnamed}
    return (
        Instances(instance_of_segment[index_of_vertex.reshape(-1)], labels),
        {reason: count for reason, count in defects.items() if count},
    )


def annotated_labels(aggregation: Path) -> set[str]:
    """The labels of an annotation file. Raises ValueError naming it if it is damaged."""
    return {label for _, _, label in _groups(aggregation)}


def refuse_missing(paths: Iterable[Path]) -> None:
    """Raise ValueError that names all of the files that are not there."""
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"{', '.join(missing)}: missing; instances need mesh, segments and annotation")


def _segment_indices(path: Path) -> np.ndarray:
    data = read_object(path)
    try:
        indices = np.asarray(data["segIndices"])
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: expected segIndices, one segment per vertex: {error!r}") from error
    if indices.ndim != 1 or (indices.size and indices.dtype.kind != "i"):
        raise ValueError(
            f"{path}: segIndices must be a list of integers, found {indices.dtype} of shape {indices.shape}"
        )
    return indices.astype(np.int64)


def _groups(path: Path) -> list[tuple[int, frozenset[int], str]]:
    data = read_object(path)
    if str(data.get("segmentsFile", "")).endswith(_FULL_RESOLUTION):
        raise ValueError(f"{path}: made for {data['segmentsFile']}, the full-resolution mesh, not for _vh_clean_2")
    try:
        return [
            (int(group["objectId"]), frozenset(int(s) for s in group["segments"]), _label(group))
            for group in data["segGroups"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: expected segGroups with objectId, segments and label: {error!r}") from error


def _label(group: dict) -> str:
    """An object's label; empty if it is null or missing."""
    label = group.get("label")
    return "" if label is None else str(label).strip()
