"""ARKitScenes: an iPad's frames with ARKit's trajectory and mesh; its objects are annotated as boxes.

Layout: apple/ARKitScenes, `raw/<split>/<video>/` and `3dod/<split>/<video>/<video>_frames/`.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from roboref_core.geometry.pose import inverse, to_quaternion
from roboref_core.scene import Instances, Mesh

from offline.data_engine.sources.damaged import naming, read_object, read_text
from offline.data_engine.sources.mesh import read_ply
from offline.data_engine.sources.posed_folder import PosedFolder, camera_for
from offline.data_engine.sources.trajectory import nearest, pose_at
from offline.files import picture_size

_COLOR_FOLDERS = ("wide", "vga_wide", "lowres_wide")
"""With the most pixels first."""
_STAMPED = re.compile(r"\d+_(\d+(?:\.\d+)?)\.(?:png|jpg|pincam)")
_MAX_DIFFERENCE = 0.02
"""Colour and depth of one moment have stamps that differ by at most this [s]."""
_MILLIMETRE = 0.001
_FLOOR = 0.03
"""The lowest part of a box is the ground the object stands on [m]."""


def frames_folder(folder: Path) -> Path | None:
    """The folder of a recording that holds its frames; None if ``folder`` is not a recording of ARKitScenes."""
    inner = folder / f"{folder.resolve().name}_frames"
    return next((place for place in (folder, inner) if (place / "lowres_wide.traj").is_file()), None)


class ArkitScenesScene(PosedFolder):
    """A recording of ARKitScenes. Frame numbers are milliseconds; colour is the largest kind of picture that is there.

    Objects are the mesh's vertices in the annotated boxes, without the lowest 3 cm; where boxes overlap, the smallest
    has them. Such outlines are coarser than those of a segmentation. ``defects``: "unpaired_frames" (colour without
    depth of the same moment, left out), "varying_intrinsics" (frames whose focal length is more than 1 % from the
    median, which is used), "objects_from_boxes", "no_object_label".

    Raises:
        ValueError: files are missing or damaged.
    """

    def __init__(self, folder: Path):
        frames = frames_folder(folder)
        if frames is None:
            raise ValueError(f"{folder}: no lowres_wide.traj")
        name = folder.resolve().name
        self._mesh_path = folder / f"{name}_3dod_mesh.ply"
        self._annotation = folder / f"{name}_3dod_annotation.json"
        colors = next((frames / kind for kind in _COLOR_FOLDERS if (frames / kind).is_dir()), None)
        color = _stamped(colors) if colors else {}
        depth = _stamped(frames / "lowres_depth")
        intrinsics = colors.with_name(f"{colors.name}_intrinsics") if colors else frames
        pincams = _stamped(intrinsics) if colors else {}
        lacking = [f"no pictures in {' or '.join(_COLOR_FOLDERS)}"] if not color else []
        lacking += ["no pictures in lowres_depth"] if not depth else []
        lacking += [f"no .pincam files in {intrinsics.name}"] if color and not pincams else []
        if lacking:
            raise ValueError(f"{frames}: {'; '.join(lacking)}")
        K = np.array([_pincam(path) for path in pincams.values()])
        color_times, depth_times = np.array(sorted(color)), np.array(sorted(depth))
        partner = depth_times[nearest(depth_times, color_times)]
        paired = np.abs(partner - color_times) <= _MAX_DIFFERENCE
        if not paired.any():
            raise ValueError(f"{frames}: no colour picture has a depth picture within {_MAX_DIFFERENCE * 1000:g} ms")
        times, depths = color_times[paired], partner[paired]
        samples = _trajectory(frames / "lowres_wide.traj")
        color_files, depth_files = [color[t] for t in times], [depth[t] for t in depths]
        median = np.median(K[:, 2:], axis=0)
        varying = int((np.abs(K[:, 2] / median[0] - 1) > 0.01).sum())
        defects = {"unpaired_frames": int((~paired).sum()), "varying_intrinsics": varying}
        camera = camera_for(color_files, _matrix(*median), str(intrinsics))
        super().__init__(
            name,
            np.rint(times * 1000).astype(np.int64).tolist(),
            color_files,
            depth_files,
            np.array([pose_at(samples, t) for t in times]),
            camera,
            camera.resized(*picture_size(depth_files[0])),
            depth_unit=_MILLIMETRE,
            stamps_ns=np.rint(times * 1e9).astype(np.int64),
            defects={reason: count for reason, count in defects.items() if count},
        )

    def mesh(self) -> Mesh | None:  # type: ignore[override]
        """ARKit's mesh, in the frame of the poses; None if the recording has none."""
        return self._mesh if self._mesh_path.is_file() else None

    def instances(self) -> Instances | None:  # type: ignore[override]
        """The annotated objects; None if there is no annotation. Raises ValueError if it is damaged."""
        if not self._annotation.is_file() or not self._mesh_path.is_file():
            return None
        boxes = _boxes(self._annotation)
        vertices = self._mesh.vertices.astype(np.float64)
        ids = np.zeros(len(vertices), np.int32)
        for uid in sorted(boxes, key=lambda uid: -float(np.prod(boxes[uid][3]))):
            _, centre, axes, lengths = boxes[uid]
            inside = (np.abs((vertices - centre) @ axes.T) <= lengths / 2).all(axis=1)
            bottom = centre[2] - float(np.abs(axes[:, 2]) @ lengths) / 2
            ids[inside & (vertices[:, 2] > bottom + _FLOOR)] = uid
        labels = {uid: box[0] for uid, box in boxes.items()}
        unnamed = sum(not label for label in labels.values())
        self.defects |= {"objects_from_boxes": len(boxes)} | ({"no_object_label": unnamed} if unnamed else {})
        return Instances(ids, labels)

    @cached_property
    def _mesh(self) -> Mesh:
        return read_ply(self._mesh_path)


def annotated_labels(path: Path) -> set[str]:
    """The labels of an annotation file."""
    return {label for label, *_ in _boxes(path).values()}


def _boxes(path: Path) -> dict[int, tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Number from 1 -> label, centre (3,) [m], axes (3, 3) as rows, lengths (3,) [m]."""
    boxes = {}
    with naming(path):
        for number, entry in enumerate(read_object(path)["data"], start=1):
            box = entry["segments"]["obbAligned"]
            centre = np.array(box["centroid"], np.float64).reshape(3)
            axes = np.array(box["normalizedAxes"], np.float64).reshape(3, 3)
            lengths = np.array(box["axesLengths"], np.float64).reshape(3)
            label = entry.get("label")
            boxes[number] = ("" if label is None else str(label).replace("_", " ").strip(), centre, axes, lengths)
    return boxes


def _stamped(folder: Path) -> dict[float, Path]:
    """Stamp [s] -> file, of names "<video>_<stamp>.<suffix>"."""
    if not folder.is_dir():
        return {}
    found = {path: _STAMPED.fullmatch(path.name) for path in sorted(folder.iterdir())}
    return {float(match[1]): path for path, match in found.items() if match}


def _pincam(path: Path) -> tuple[float, ...]:
    """Width, height, fx, fy, cx, cy [pixel]."""
    with naming(path):
        values = tuple(float(field) for field in read_text(path).split())
        if len(values) != 6:
            raise ValueError(f"{path}: expected width, height, fx, fy, cx, cy, found {len(values)} numbers")
        return values


def _matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def _trajectory(path: Path) -> np.ndarray:
    """(N, 8) stamp, x y z qx qy qz qw of T_world_camera, ascending.

    The file has a stamp, a rotation vector [rad] and a translation [m] per line, which map points of the world into the
    camera.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            stamp, *values = (float(field) for field in line.split())
            T_camera_world = np.eye(4)
            T_camera_world[:3, :3] = cv2.Rodrigues(np.array(values[:3]))[0]
            T_camera_world[:3, 3] = values[3:6]
            if len(values) != 6:
                raise ValueError(f"expected 7 numbers, found {len(values) + 1}")
        except (ValueError, cv2.error) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
        T_world_camera = inverse(T_camera_world)
        rows.append([stamp, *T_world_camera[:3, 3], *to_quaternion(T_world_camera)])
    if not rows:
        raise ValueError(f"{path}: empty")
    return np.array(sorted(rows))
