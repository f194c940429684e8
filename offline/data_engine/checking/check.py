"""Does a scan fit together? Mesh, poses, depth and masks of one scene, scored and drawn.

With a mesh, each frame's sensor depth is compared with the mesh drawn from its pose; without one, with the depth
of its neighbours warped into it. Masks are compared with ScanNet's 2D instance pictures where those are given:
a cross-check between two projections, since those are estimates too.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from roboref_core.scene import BadFrame
from roboref_core.views.visibility import DepthTolerance

from offline.data_engine.filters import FilterConfig, mismatched_colors, reject_frame
from offline.data_engine.seeing.alignment import Alignment, compare, neighbour_depth
from offline.data_engine.seeing.frame_quality import grey_picture
from offline.data_engine.seeing.photometric import EdgeOffsets, Look, agreements, look_of
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.zbuffer import Projection
from offline.data_engine.sources import Scene
from offline.files import write_json, write_picture

_TILE = 400
_SHEET_COLUMNS = 3
_SHEET_ROWS = 5
_MIN_IOU_AREA = 200
_NEIGHBOURS = 2
_PALETTE = np.random.default_rng(5).integers(60, 255, (256, 3)).astype(np.uint8)


def check_scene(
    scene: Scene, out: Path, most_frames: int = 30, min_good: float = 0.8, annotations: Path | None = None
) -> dict:
    """Score a scene; writes ``{scene}_alignment.json`` and contact sheets ``{scene}_{nn}.png`` into ``out``.

    Returns the report: per frame its scores, among them how its colours agree with other frames' through the geometry;
    over all "good_share" of the judged frames, medians, "mask_iou", "misalignment_px" of colour and depth, and
    "passed".

    Raises ValueError if the scene has no frame with a pose.
    """
    tracked = np.flatnonzero(np.isfinite(scene.poses).all(axis=(1, 2)))
    if len(tracked) == 0:
        raise ValueError(f"scene {scene.scene_id}: no frame has a pose")
    chosen = tracked[np.unique(np.linspace(0, len(tracked) - 1, min(most_frames, len(tracked))).round().astype(int))]
    mesh = scene.mesh()
    instances = scene.instances() if mesh is not None else None
    surface = Surface.build(mesh, instances) if mesh is not None else None
    frames: list[dict] = []
    shown: list[tuple] = []
    looks: dict[int, Look] = {}
    offsets = EdgeOffsets(scene.color_camera, scene.depth_camera)
    for i in chosen.tolist():
        try:
            depth = scene.depth(i)
            expected = _expected(scene, surface, i, tracked)
            facts = _frame_facts(scene, i, compare(depth, expected))
            ids = None
            if surface is not None:
                ids = Projection(surface, scene.color_camera, scene.poses[i]).render().ids
                if annotations is not None:
                    facts["mask_iou"] = _mask_iou(ids, annotations, int(scene.frame_ids[i]))
            grey = grey_picture(scene, i)
            looks[i] = look_of(grey, depth, scene.poses[i])
            offsets.add(grey, depth)
            shown.append((i, depth, expected, ids, facts))
        except BadFrame as error:
            facts = {"frame": int(scene.frame_ids[i]), "verdict": "unreadable", "error": str(error)}
        frames.append(facts)
    agreement = agreements(looks, scene.color_camera, scene.depth_camera, DepthTolerance())
    _judge_colors(frames, scene, agreement)
    report = _report(scene, frames, "mesh" if surface is not None else "neighbouring frames", min_good)
    report["misalignment_px"] = offsets.misalignment()
    write_json(out / f"{scene.scene_id}_alignment.json", report)
    tiles = [_tile(scene, *arguments) for arguments in shown]
    page = _SHEET_COLUMNS * _SHEET_ROWS
    for start in range(0, len(tiles), page):
        write_picture(out / f"{scene.scene_id}_{start // page:02d}.png", _sheet(tiles[start : start + page]))
    return report


def _judge_colors(frames: list[dict], scene: Scene, agreement: dict[int, float]) -> None:
    """Add each frame's "agreement" of colour with its neighbours, and the verdict that follows from it."""
    mismatched = mismatched_colors(agreement, FilterConfig())
    position = {int(frame): i for i, frame in enumerate(scene.frame_ids)}
    for facts in frames:
        i = position[facts["frame"]]
        facts["agreement"] = round(agreement[i], 4) if i in agreement else None
        if facts["verdict"] == "good" and (mismatched is None or i in mismatched):
            facts["verdict"] = "color_mismatch"


def _expected(scene: Scene, surface: Surface | None, i: int, tracked: np.ndarray) -> np.ndarray:
    """The depth that the mesh, or else the frame's neighbours, lead to expect."""
    if surface is not None:
        return Projection(surface, scene.depth_camera, scene.poses[i]).render().depth
    others = []
    for j in _nearest(scene, i, tracked):
        try:
            others.append((scene.depth(j), scene.poses[j]))
        except BadFrame:
            continue
    return neighbour_depth(scene.poses[i], others, scene.depth_camera)


def _nearest(scene: Scene, i: int, tracked: np.ndarray) -> list[int]:
    """The frames whose view is most like that of ``i``: near, and looking the same way."""
    T = scene.poses[tracked]
    apart = np.linalg.norm(T[:, :3, 3] - scene.poses[i, :3, 3], axis=1)
    turned = np.arccos(np.clip(T[:, :3, 2] @ scene.poses[i, :3, 2], -1, 1))
    order = tracked[np.argsort(apart + 2 * turned, kind="stable")]
    return [int(j) for j in order if j != i][:_NEIGHBOURS]


def _frame_facts(scene: Scene, i: int, score: Alignment) -> dict:
    verdict = reject_frame(score, FilterConfig()) or "good"
    facts = {key: None if value != value else round(value, 5) for key, value in asdict(score).items()}
    return {"frame": int(scene.frame_ids[i]), "verdict": verdict, **facts}


def _mask_iou(ids: np.ndarray, annotations: Path, frame: int) -> dict[str, float]:
    """Per object, overlap of our mask with the published instance picture of the frame."""
    with zipfile.ZipFile(annotations) as archive:
        names = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == f"{frame}.png"]
        if not names:
            raise ValueError(f"{annotations}: no picture {frame}.png")
        published = cv2.imdecode(np.frombuffer(archive.read(names[0]), np.uint8), cv2.IMREAD_UNCHANGED)
    if published is None or published.shape != ids.shape:
        found = None if published is None else published.shape
        raise ValueError(f"{annotations}: {names[0]} has shape {found}, expected {ids.shape}")
    overlaps = {}
    for uid in np.unique(published[published > 0]).tolist():
        ours, theirs = ids == uid, published == uid
        if max(ours.sum(), theirs.sum()) >= _MIN_IOU_AREA:
            overlaps[str(uid)] = round(float((ours & theirs).sum() / (ours | theirs).sum()), 4)
    return overlaps


def _report(scene: Scene, frames: list[dict], against: str, min_good: float) -> dict:
    judged = [facts for facts in frames if facts["verdict"] in ("good", "bad_pose", "color_mismatch")]
    good = [facts for facts in judged if facts["verdict"] == "good"]

    def median(key: str) -> float | None:
        values = [facts[key] for facts in judged if facts.get(key) is not None]
        return round(float(np.median(values)), 5) if values else None

    overlaps = [value for facts in frames for value in facts.get("mask_iou", {}).values()]
    share = round(len(good) / len(judged), 4) if judged else 0.0
    tolerance = DepthTolerance()
    return {
        "scene_id": scene.scene_id,
        "compared_with": against,
        "tolerance": {"a": tolerance.a, "b": tolerance.b},
        "frames_looked_at": len(frames),
        "judged": len(judged),
        "good_share": share,
        "passed": bool(judged) and share >= min_good,
        "median_of": {key: median(key) for key in ("median", "mad", "inliers", "edges", "compared", "agreement")},
        "mask_iou": round(float(np.median(overlaps)), 4) if overlaps else None,
        "defects": dict(scene.defects),
        "frames": frames,
    }


def _tile(scene: Scene, i: int, depth: np.ndarray, expected: np.ndarray, ids: np.ndarray | None, facts: dict):
    """Colour with object outlines, and sensor - expected as colours, under a line of scores."""
    color = scene.color(i)
    if ids is not None:
        tint = _PALETTE[ids & 255]
        color = np.where((ids > 0)[..., None], (color * 0.6 + tint * 0.4).astype(np.uint8), color)
        edge = np.zeros(ids.shape, dtype=bool)
        edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
        edge[1:] |= ids[1:] != ids[:-1]
        color[cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = (255, 255, 255)
    limit = DepthTolerance().at(expected)
    both = (depth > 0) & (expected > 0)
    ratio = np.where(both, (depth - expected) / np.maximum(limit, 1e-6), 0)
    # Grey: agrees. Red: the sensor sees something nearer. Blue: it sees through. Black: nothing to compare.
    residual = np.full((*depth.shape, 3), 170, np.uint8)
    residual[ratio < -1] = (220, 60, 50)
    residual[ratio > 1] = (60, 80, 220)
    residual[~both] = 0
    size = (_TILE, round(_TILE * color.shape[0] / color.shape[1]))
    pictures = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (color, residual)]
    caption = np.full((24, 2 * _TILE, 3), 255, np.uint8)
    text = f"{facts['frame']} {facts['verdict']}  median {_mm(facts['median'])}  MAD {_mm(facts['mad'])}"
    text += f"  agree {facts['inliers']:.0%}  edges {'-' if facts['edges'] is None else format(facts['edges'], '.2f')}"
    text += f"  colours {'-' if facts.get('agreement') is None else format(facts['agreement'], '.2f')}"
    cv2.putText(caption, text, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.48, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([caption, np.hstack(pictures)])


def _mm(metres: float | None) -> str:
    return "-" if metres is None else f"{1000 * metres:.0f} mm"


def _sheet(tiles: list[np.ndarray]) -> np.ndarray:
    columns = min(_SHEET_COLUMNS, len(tiles))
    blank = np.full_like(tiles[0], 255)
    tiles = tiles + [blank] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)])
