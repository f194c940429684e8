"""One pass over a scene: which frames are good, which objects are worth asking for, and where each is seen.

Nothing is decoded that a cheaper test rules out first: poses thin the frames, bounding boxes against
frustums pick the candidates, one blob of depth per remaining frame feeds the point counter, and only
frames with a candidate that it sees are drawn. Colour is decoded once per such frame, small and grey, to tell
how sharp it is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from roboref_core.views.visibility import Visibility

from offline.data_engine.filters import FilterConfig, mismatched_colors, reject_frame, reject_object, reject_view
from offline.data_engine.seeing.alignment import Alignment, compare
from offline.data_engine.seeing.frame_quality import grey_picture, keyframes, sharpness
from offline.data_engine.seeing.frustum import candidates
from offline.data_engine.seeing.photometric import EdgeOffsets, Look, agreements, look_of
from offline.data_engine.seeing.point_counter import PointCounter
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import STATES, FrameVisibility, ObjectView, VisibilityConfig
from offline.data_engine.sources import BadFrame, Scene
from offline.data_engine.sources.labels import LabelTable

_VISIBLE, _UNKNOWN = STATES.index(Visibility.VISIBLE), STATES.index(Visibility.UNKNOWN)
_EDGE_FRAMES = 16
"""So many frames of a scene say how far its colour and depth are apart."""


@dataclass(frozen=True)
class ScanConfig:
    """How a scene is searched.

    Attributes:
        keyframe_translation: motion of the camera that makes a frame worth another look [m].
        keyframe_rotation: its turn that does [rad].
        min_points: sample points of an object that the sensor must see before a frame is drawn for it.
    """

    keyframe_translation: float = 0.1
    keyframe_rotation: float = 0.1
    min_points: int = 5


@dataclass
class SceneScan:
    """What was found.

    Attributes:
        surface: of the scene.
        labels: id -> raw label of the objects that are kept.
        views: object id -> frame position -> accepted view.
        judged: object id -> number of frames in which it was looked at closely.
        sharpness: frame position -> relative to the median of the scene's keyframes.
        seen: frame position -> bits of the surface's sample points that its sensor sees.
        frames, objects, pairs: reason -> number of rejected frames, objects, and views of kept objects;
            "kept" counts the accepted ones.
        bad: frame id -> the error with which it could not be read.
        alignment: frame position -> score against the mesh.
        agreement: frame position -> of its colours with its neighbours', see ``photometric.agreements``.
        misalignment: between steps in depth and edges of colour [pixel of colour]; None where it cannot be told.
    """

    surface: Surface
    labels: dict[int, str]
    views: dict[int, dict[int, ObjectView]] = field(default_factory=dict)
    judged: Counter = field(default_factory=Counter)
    sharpness: dict[int, float] = field(default_factory=dict)
    seen: dict[int, np.ndarray] = field(default_factory=dict)
    frames: Counter = field(default_factory=Counter)
    objects: Counter = field(default_factory=Counter)
    pairs: Counter = field(default_factory=Counter)
    bad: dict[int, str] = field(default_factory=dict)
    alignment: dict[int, Alignment] = field(default_factory=dict)
    agreement: dict[int, float] = field(default_factory=dict)
    misalignment: float | None = None


def scan_scene(
    scene: Scene,
    scan_config: ScanConfig | None = None,
    filters: FilterConfig | None = None,
    visibility: VisibilityConfig | None = None,
    table: LabelTable | None = None,
) -> SceneScan:
    """Look through a scene. Raises ValueError if it has no mesh or no instances."""
    config, filters = scan_config or ScanConfig(), filters or FilterConfig()
    visibility = visibility or VisibilityConfig()
    mesh, instances = scene.mesh(), scene.instances()
    if mesh is None or instances is None:
        missing = [name for name, part in (("mesh", mesh), ("instances", instances)) if part is None]
        raise ValueError(
            f"scene {scene.scene_id}: no {' and no '.join(missing)}; training data needs both (--annotations names the "
            "folder of ScanNet's, where they do not lie beside the frames)"
        )
    scan = SceneScan(Surface.build(mesh, instances), {})
    for object_id in sorted(instances.labels):
        label = instances.labels[object_id]
        reason = reject_object(object_id, label, scan.surface, filters, table)
        scan.objects[reason or "kept"] += 1
        if reason is None:
            scan.labels[object_id] = label
            scan.views[object_id] = {}

    tracked = np.isfinite(scene.poses).all(axis=(1, 2))
    chosen = keyframes(scene.poses, config.keyframe_translation, config.keyframe_rotation)
    scan.frames["lost_tracking"] = int((~tracked).sum())
    scan.frames["near_duplicate"] = int(tracked.sum()) - len(chosen)
    kept = [scan.surface.index(object_id) for object_id in scan.labels]
    in_frustum = np.zeros((len(chosen), len(scan.surface.object_ids)), dtype=bool)
    in_frustum[:, kept] = candidates(
        scene.poses[chosen], scene.depth_camera, scan.surface.lower[kept], scan.surface.upper[kept]
    )
    counter = PointCounter(scan.surface, scene.depth_camera, visibility.tolerance)
    frame_views: dict[int, list[ObjectView]] = {}
    looks: dict[int, Look] = {}
    offsets, every = EdgeOffsets(scene.color_camera, scene.depth_camera), max(1, len(chosen) // _EDGE_FRAMES)
    for row, i in enumerate(chosen.tolist()):
        try:
            measured = offsets if row % every == 0 else None
            views = _scan_frame(scene, i, scan, counter, in_frustum[row], config, filters, visibility, looks, measured)
        except BadFrame as error:
            scan.bad[int(scene.frame_ids[i])] = str(error)
            scan.frames["unreadable"] += 1
            continue
        if views is not None:
            frame_views[i] = views
    _drop_blurred(frame_views, scan, filters)
    looks = {i: look for i, look in looks.items() if i in frame_views}
    scan.agreement = agreements(looks, scene.color_camera, scene.depth_camera, visibility.tolerance)
    scan.misalignment = offsets.misalignment()
    _drop_mismatched(frame_views, scan, filters)
    pixels = scene.depth_camera.width * scene.depth_camera.height
    for i, views in frame_views.items():
        for view in views:
            reason = reject_view(view, pixels, filters)
            scan.judged[view.object_id] += 1
            scan.pairs[reason or "kept"] += 1
            if reason is None:
                scan.views[view.object_id][i] = view
    return scan


def _scan_frame(
    scene, i, scan, counter, in_frustum, config, filters, visibility, looks, offsets
) -> list[ObjectView] | None:
    """Views of the candidate objects of one frame; None if the frame has none or was rejected."""
    if not in_frustum.any():
        scan.frames["no_object"] += 1
        return None
    depth = scene.depth(i)
    counts, _ = counter.count(depth, scene.poses[i], in_frustum)
    promising = in_frustum & (counts[:, _VISIBLE] + counts[:, _UNKNOWN] >= config.min_points)
    scan.pairs["not_seen"] += int((in_frustum & ~promising).sum())
    if not promising.any():
        scan.frames["no_object"] += 1
        return None
    frame = FrameVisibility(scan.surface, scene.depth_camera, scene.poses[i], depth, scene.depth_camera, visibility)
    # Every other row and column is plenty for medians.
    sampled = depth[::2, ::2], frame.zbuffer.depth[::2, ::2]
    scan.alignment[i] = compare(*sampled, visibility.tolerance, with_edges=False)
    reason = reject_frame(scan.alignment[i], filters)
    if reason is not None:
        scan.frames[reason] += 1
        return None
    grey = grey_picture(scene, i)
    scan.sharpness[i] = sharpness(grey)
    looks[i] = look_of(grey, depth, scene.poses[i])
    if offsets is not None:
        offsets.add(grey, depth)
    _, scan.seen[i] = counter.count(depth, scene.poses[i])
    return [frame.view(int(scan.surface.object_ids[k])) for k in np.flatnonzero(promising)]


def _drop_mismatched(frame_views: dict, scan: SceneScan, filters: FilterConfig) -> None:
    """Remove frames whose colours do not belong to the geometry; all of them if most do not."""
    mismatched = mismatched_colors(scan.agreement, filters)
    for i in list(frame_views) if mismatched is None else sorted(mismatched):
        scan.frames["color_mismatch"] += 1
        del frame_views[i], scan.seen[i]
    scan.frames["kept"] = len(frame_views)


def _drop_blurred(frame_views: dict, scan: SceneScan, filters: FilterConfig) -> None:
    """Make sharpness relative to the scene's median and remove the frames that are far below it."""
    if not frame_views:
        return
    median = float(np.median([scan.sharpness[i] for i in frame_views]))
    for i in list(frame_views):
        scan.sharpness[i] /= max(median, 1e-9)
        if scan.sharpness[i] < filters.min_sharpness:
            scan.frames["blurred"] += 1
            del frame_views[i], scan.seen[i]
    scan.frames["kept"] = len(frame_views)
