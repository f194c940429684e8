"""ScanNet v2 scans: frames from `.sens` or an exported folder, with mesh, instances and metadata.

Formats: ScanNet/ScanNet (SensReader, README, BenchmarkScripts).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from roboref_core.geometry.pose import orthonormalise
from roboref_core.scene import EncodedImage, Instances, Mesh, Scene

from offline.data_engine.sources.damaged import read_text
from offline.data_engine.sources.instances import read_instances, refuse_missing
from offline.data_engine.sources.labels import LABEL_FILE, LabelTable
from offline.data_engine.sources.mesh import read_ply


class ScanNetPaths:
    """Where the files of one scan lie. Attributes are paths, whether or not the files exist.

    Only the decimated mesh's files are known here: `_vh_clean.segs.json` and `_vh_clean.aggregation.json` belong to
    the full-resolution mesh and fit nothing else.
    """

    def __init__(self, folder: str | Path, scene_id: str):
        self.folder = Path(folder)
        self.scene_id = scene_id
        self.sens = self.folder / f"{scene_id}.sens"
        self.mesh = self.folder / f"{scene_id}_vh_clean_2.ply"
        self.segments = self.folder / f"{scene_id}_vh_clean_2.0.010000.segs.json"
        self.aggregation = self.folder / f"{scene_id}.aggregation.json"
        self.metadata = self.folder / f"{scene_id}.txt"

    def label_table(self) -> Path | None:
        """The label table, beside the scan or in one of the two folders above it."""
        folder = self.folder.resolve()
        for parent in (folder, folder.parent, folder.parent.parent):
            if (parent / LABEL_FILE).is_file():
                return parent / LABEL_FILE
        return None

    @property
    def has_annotations(self) -> bool:
        return self.mesh.is_file() or self.metadata.is_file() or self.aggregation.is_file()


def read_metadata(path: str | Path) -> dict[str, str]:
    """The `key = value` lines of a scan's `.txt`."""
    pairs = (line.partition("=") for line in read_text(Path(path)).splitlines())
    return {key.strip(): value.strip() for key, separator, value in pairs if separator}


class ScanNetScene:
    """A scan: frames of any kind plus what ScanNet knows about its surface and objects.

    Poses and mesh are in the scan's own world frame; ``axis_alignment`` turns both. ``defects`` adds
    "no_axis_alignment" (test scans and raw captures have none: identity is used), "frame_count_differs" (the `.txt`
    is off by one in nine known scans; the frames decide), and, once instances were read, "duplicate_objects" and
    "absent_segments".

    Args:
        frames: the scan's frames.
        paths: the scan's files.
    """

    def __init__(self, frames: Scene, paths: ScanNetPaths):
        self.frames = frames
        self.paths = paths
        self.scene_id = paths.scene_id
        self.color_camera, self.depth_camera = frames.color_camera, frames.depth_camera
        self.frame_ids, self.poses, self.stamps_ns = frames.frame_ids, frames.poses, frames.stamps_ns
        self.defects = dict(frames.defects)
        self.metadata = read_metadata(paths.metadata) if paths.metadata.is_file() else {}
        self.axis_alignment = self._axis_alignment()
        counted = self.metadata.get("numColorFrames", "")
        declared = len(frames) + frames.defects.get("truncated_frames", 0)
        if counted.isdigit() and int(counted) != declared:
            self.defects["frame_count_differs"] = 1

    def __len__(self) -> int:
        return len(self.frames)

    def color(self, i: int) -> np.ndarray:
        return self.frames.color(i)

    def color_encoded(self, i: int) -> EncodedImage | None:
        return self.frames.color_encoded(i)

    def depth(self, i: int) -> np.ndarray:
        return self.frames.depth(i)

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        return self.frames.depth_raw(i)

    @cached_property
    def label_table(self) -> LabelTable | None:
        path = self.paths.label_table()
        return LabelTable.read(path) if path else None

    def mesh(self) -> Mesh | None:
        """The decimated mesh, in the frame of the poses; None if the scan has none."""
        return self._mesh if self.paths.mesh.is_file() else None

    def instances(self) -> Instances | None:
        """The annotated objects; None if the scan has no annotation (test scans).

        Objects with the segments of an earlier one are dropped (scene0217_00 lists its objects twice); where two
        objects share some segments the later keeps them, as in ScanNet's own readers.

        Raises ValueError if mesh or annotation files are missing (all are named), or belong to another mesh.
        """
        paths = self.paths
        if not paths.aggregation.is_file() and not paths.segments.is_file():
            return None
        refuse_missing((paths.mesh, paths.segments, paths.aggregation))
        instances, defects = read_instances(paths.segments, paths.aggregation, len(self._mesh.vertices))
        self.defects |= defects
        return instances

    @cached_property
    def _mesh(self) -> Mesh:
        return read_ply(self.paths.mesh)

    def _axis_alignment(self) -> np.ndarray:
        text = self.metadata.get("axisAlignment")
        if text is None:
            self.defects["no_axis_alignment"] = 1
            return np.eye(4)
        where = f"{self.paths.metadata}: axisAlignment"
        try:
            values = np.array(text.split(), dtype=np.float64)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if values.size != 16:
            raise ValueError(f"{where}: expected 16 numbers, found {values.size}")
        return orthonormalise(values.reshape(4, 4), where=where)
