"""One scene from its source to its folder: views of objects, whole frames, and all facts the tasks need.

Into ``{root}/{split}/{scene_id}/`` go the five_frames folders of its objects; ``frames/`` with every frame used
(the JPEG as it was recorded, where the source has one and it is not shrunk), its depth picture, and the masks
of its referring expressions; and ``scene.json``. The folder appears as a whole, by renaming, or not at all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from roboref_core.views.depth_picture import view_to_picture
from roboref_core.views.view import View
from roboref_core.views.visibility import Visibility

from offline.data_engine.building.completion import object_extent, why_object_remains
from offline.data_engine.building.inpaint import (
    ClassicalInpainter,
    Inpainted,
    Inpainter,
    SourceView,
    depth_without,
    dilate,
    inpaint,
    paint_hole,
    rank_sources,
)
from offline.data_engine.building.scan import SceneScan, scan_scene
from offline.data_engine.building.selection import SelectionConfig, select_views
from offline.data_engine.config import SceneConfig
from offline.data_engine.filters import category, reject_view
from offline.data_engine.five_frames import (
    ViewPictures,
    depth_path,
    shrink_mask,
    shrink_picture,
    write_entries,
    write_view,
)
from offline.data_engine.sealed_folder import Draft, sealed_folder
from offline.data_engine.seeing.overlap import overlap_matrix
from offline.data_engine.seeing.visibility import FrameVisibility, ObjectView
from offline.data_engine.sources import BadFrame, Scene
from offline.data_engine.sources.labels import LabelTable, structural_family
from offline.data_engine.tasks.ground_truth import normalised
from offline.data_engine.tasks.reasoning import step_facts
from offline.data_engine.tasks.referring import Referring, carried_objects, referring_expressions
from offline.files import encode_png

_CACHED_FRAMES = 12
"""Decoded source views kept at a time. With them a worker stays below 1 GB for 1296x968 pictures and 300,000 faces."""


@dataclass
class _Frame:
    """What the exact pass found in one frame."""

    views: dict[int, ObjectView]
    accepted: set[int]


class SceneBuilder:
    """Builds one scene.

    Args:
        scene: the source.
        config: settings.
        config_hash: written into ``scene.json``.
        table: label table, for families and categories of raw spellings.
        inpainter: for background that no view saw.
    """

    def __init__(
        self,
        scene: Scene,
        config: SceneConfig,
        config_hash: str,
        table: LabelTable | None = None,
        inpainter: Inpainter | None = None,
    ):
        self.scene = scene
        self.config = config
        self.config_hash = config_hash
        self.table = table
        self.inpainter = inpainter or ClassicalInpainter()
        self._source = lru_cache(_CACHED_FRAMES)(self._read_source)
        self._inpainted: dict[str, float] = {}
        """Inpainted picture -> share of its hole that other views filled."""
        self._not_inpainted: Counter[str] = Counter()

    def build(self, root: Path, split: str) -> dict:
        """Write the scene's folder; returns the content of its ``scene.json``."""
        with sealed_folder(root / split / self.scene.scene_id) as draft:
            facts = self._build(draft, split)
            draft.json("scene.json", facts)
        return facts

    def _build(self, draft: Draft, split: str) -> dict:
        scan = scan_scene(self.scene, self.config.scan, self.config.filters, self.config.visibility, self.table)
        labels = self._all_labels()
        chosen, frames = self._choose(scan, labels)
        chosen_at: dict[int, list[int]] = {}
        for uid, positions in chosen.items():
            for i in positions:
                chosen_at.setdefault(i, []).append(uid)
        entries: dict[int, list[dict]] = {uid: [] for uid in chosen}
        frame_facts, referring = {}, []
        for i in sorted(chosen_at):
            facts, phrases = self._write_frame(draft, i, chosen_at[i], frames[i], scan, labels, entries)
            frame_facts[self._frame_name(i)] = facts
            referring += phrases
        for uid in chosen:
            write_entries(draft, self.scene.scene_id, uid, entries[uid])
        scan.objects["kept"] = len(chosen)
        return {
            "scene_id": self.scene.scene_id,
            "split": split,
            "config_hash": self.config_hash,
            "size": self._size(),
            "source_size": [self.scene.color_camera.width, self.scene.color_camera.height],
            "objects": self._object_facts(scan, labels, chosen),
            "frames": frame_facts,
            "overlap": self._overlap(scan, sorted(chosen_at)),
            "referring": referring,
            "counts": {
                "source_frames": len(self.scene),
                "frames": _positive(scan.frames),
                "objects": _positive(scan.objects),
                "views": _positive(scan.pairs),
            },
            "inpainting": {
                "inpainter": self.inpainter.name,
                "views": len(self._inpainted),
                "warped": round(float(np.mean(list(self._inpainted.values()))), 4) if self._inpainted else 0.0,
                "pictures": {name: round(float(share), 4) for name, share in sorted(self._inpainted.items())},
                "rejected": dict(sorted(self._not_inpainted.items())),
            },
            "misalignment_px": scan.misalignment,
            "bad_frames": {str(k): v for k, v in sorted(scan.bad.items())},
            "defects": dict(self.scene.defects),
        }

    def _overlap(self, scan: SceneScan, positions: list[int]) -> dict[str, dict[str, float]]:
        """Frame -> other frame -> share of the surface that both see, of what either sees."""
        if not positions:
            return {}
        matrix = overlap_matrix(np.stack([scan.seen[i] for i in positions]))
        names = [self._frame_name(i) for i in positions]
        return {
            name: {other: round(float(value), 4) for other, value in zip(names, row, strict=True) if other != name}
            for name, row in zip(names, matrix, strict=True)
        }

    def _all_labels(self) -> dict[int, str]:
        """Label by id of everything that is not part of the building, whether it is trained on or not."""
        instances = self.scene.instances()
        assert instances is not None
        labels = instances.labels
        return {uid: label for uid, label in sorted(labels.items()) if structural_family(label, self.table) is None}

    def _choose(self, scan: SceneScan, labels: dict[int, str]) -> tuple[dict[int, list[int]], dict[int, _Frame]]:
        """Select views until every selected one holds at the full resolution of the colour picture."""
        frames: dict[int, _Frame] = {}
        pool = {uid: dict(views) for uid, views in scan.views.items()}
        while True:
            chosen = {uid: select_views(pool[uid], scan.sharpness, self.config.selection) for uid in pool}
            missing = sorted({i for positions in chosen.values() for i in positions} - frames.keys())
            if not missing:
                break
            for i in missing:
                frames[i] = self._look(scan, labels, i)
                for uid, views in pool.items():
                    if i in views and uid not in frames[i].accepted:
                        del views[i]
        for uid in (uid for uid, positions in chosen.items() if not positions):
            scan.objects[_why_not_chosen(scan.judged[uid], len(pool[uid]), self.config.selection)] += 1
        return {uid: sorted(positions) for uid, positions in chosen.items() if positions}, frames

    def _visibility(self, surface, i: int) -> FrameVisibility:
        source = self._source(i)
        return FrameVisibility(
            surface, source.camera, source.T_world_camera, source.depth, source.depth_camera, self.config.visibility
        )

    def _look(self, scan: SceneScan, labels: dict[int, str], i: int) -> _Frame:
        try:
            frame = self._visibility(scan.surface, i)
        except BadFrame as error:
            scan.bad[int(self.scene.frame_ids[i])] = str(error)
            lost = sum(i in views for views in scan.views.values())
            scan.pairs["kept"] -= lost
            scan.pairs["unreadable"] += lost
            return _Frame({}, set())
        known = set(scan.surface.object_ids.tolist())
        views = {uid: frame.view(uid) for uid in labels if uid in known and self._drawable(scan, uid)}
        pixels = frame.camera.width * frame.camera.height
        rejected = {uid: reject_view(views[uid], pixels, self.config.filters) for uid in scan.labels}
        for uid, reason in rejected.items():
            if reason is not None and i in scan.views[uid]:
                scan.pairs["kept"] -= 1
                scan.pairs[reason] += 1
        return _Frame(views, {uid for uid, reason in rejected.items() if reason is None})

    def _drawable(self, scan: SceneScan, uid: int) -> bool:
        k = scan.surface.index(uid)
        return scan.surface.face_starts[k] < scan.surface.face_starts[k + 1]

    def _write_frame(self, draft: Draft, i, uids, seen: _Frame, scan, labels, entries) -> tuple[dict, list[dict]]:
        """Write one frame and the views of the objects that chose it; returns its facts and its phrases."""
        frame = self._visibility(scan.surface, i)
        source = self._source(i)
        masks, confirmed = {}, {}
        for uid, view in seen.views.items():
            if view.state == Visibility.VISIBLE:
                _, masks[uid], confirmed[uid] = frame.observe(uid)
        factor = self.config.downsample
        original = encode_png(shrink_picture(source.color, factor))
        depth = self._depth_picture(source, source.depth)
        original_depth = None if depth is None else encode_png(depth)
        picture = self._write_whole(draft, i, original, original_depth)
        others = {j: bits for j, bits in scan.seen.items() if j != i}
        for uid in uids:
            other_things = [other for other in labels if other != uid]
            extent = object_extent(frame, source.color, masks[uid], other_things)
            hole = paint_hole(frame, extent.region, self.config.dilation, other_things)
            order = rank_sources(frame, uid, hole, others, self.scene.poses, self.config.sources)
            views = self._readable(order, scan)
            tolerance = self.config.visibility.tolerance
            result = inpaint(frame, source.color, uid, hole, views, self.inpainter, tolerance, extent.region)
            number = len(entries[uid]) + 1
            reason = why_object_remains(source.color, result.image, masks[uid], hole, extent)
            self._note_inpainted(uid, i, number, result, reason)
            inpainted_depth = None
            if depth is not None and reason is None:
                inpainted_depth = self._depth_picture(source, depth_without(frame, uid, hole))
            pictures = ViewPictures(
                frame_id=int(self.scene.frame_ids[i]),
                original=original,
                inpainted=None if reason else shrink_picture(result.image, factor),
                mask=shrink_mask(masks[uid], factor),
                mask_dilated=shrink_mask(dilate(masks[uid], self.config.dilation), factor),
                original_depth=original_depth,
                inpainted_depth=inpainted_depth,
            )
            label = scan.labels[uid]
            entries[uid].append(write_view(draft, self.scene.scene_id, uid, label, number, pictures))
        phrases = referring_expressions(
            frame,
            seen.views,
            masks,
            confirmed,
            labels,
            self.scene.axis_alignment,
            self.config.referring,
            (self.config.seed, self.scene.scene_id, int(self.scene.frame_ids[i])),
            scan.misalignment or 0.0,
        )
        name = self._frame_name(i)
        facts = {
            "picture": picture,
            "pose": np.round(self.scene.poses[i], 9).ravel().tolist(),
            "sharpness": round(scan.sharpness[i], 4),
            "inliers": round(scan.alignment[i].inliers, 4),
            "agreement": round(scan.agreement[i], 4) if i in scan.agreement else None,
            "objects": {str(uid): _view_facts(view) for uid, view in sorted(seen.views.items())},
        }
        written = (self._write_phrase(draft, name, k, phrase) for k, phrase in enumerate(phrases))
        return facts, [phrase for phrase in written if phrase is not None]

    def _note_inpainted(self, uid: int, i: int, number: int, result: Inpainted, reason: str | None) -> None:
        if reason is None:
            self._inpainted[f"uid_{uid}/{number:02d}_{self._frame_name(i)}"] = result.warped
        else:
            self._not_inpainted[reason] += 1

    def _readable(self, positions: list[int], scan: SceneScan) -> list[SourceView]:
        """Source views of those frames that can be read; the others are noted."""
        views = []
        for j in positions:
            try:
                views.append(self._source(j))
            except BadFrame as error:
                scan.bad[int(self.scene.frame_ids[j])] = str(error)
        return views

    def _write_whole(self, draft: Draft, i: int, png: bytes, depth: bytes | None) -> str:
        name = self._frame_name(i)
        encoded = self.scene.color_encoded(i) if self.config.downsample == 1 else None
        if encoded is not None:
            picture = f"frames/{name}.{'jpg' if encoded.format == 'jpeg' else encoded.format}"
            draft.write(picture, encoded.data)
        else:
            picture = f"frames/{name}.png"
            draft.write(picture, png)
        if depth is not None:
            draft.write(depth_path(Path(picture)).as_posix(), depth)
        return picture

    def _write_phrase(self, draft: Draft, frame: str, number: int, phrase: Referring) -> dict | None:
        """Write a phrase's mask; None if a point falls off its mask where that is shrunk."""
        facts: dict[str, Any] = {
            "frame": frame,
            "relation": phrase.relation,
            "text": phrase.text,
            "uids": list(phrase.uids),
            "reason": phrase.reason,
            "points": [],
            "mask": None,
        }
        if phrase.steps:
            facts |= {"step_count": phrase.count, "steps": [step_facts(step) for step in phrase.steps]}
        if phrase.mask is None:
            return facts
        points = [normalised(pixel, phrase.mask.shape[::-1]) for pixel in phrase.pixels]
        mask = shrink_mask(phrase.mask, self.config.downsample)
        h, w = mask.shape
        if not all(mask[int(y * h), int(x * w)] for x, y in points):
            return None
        facts["points"] = [list(point) for point in points]
        facts["mask"] = f"frames/{frame}_r{number:02d}_mask.png"
        draft.picture(facts["mask"], mask.astype(np.uint8) * 255)
        return facts

    def _depth_picture(self, source: SourceView, depth: np.ndarray) -> np.ndarray | None:
        """(H, W, 3) uint8 at the size that is written; None if there is no depth, or none is wanted."""
        if not self.config.depth_pictures:
            return None
        view = View(
            view_id=self.scene.scene_id,
            stamp_ns=0,
            color=source.color,
            camera=source.camera,
            depth=depth,
            depth_camera=source.depth_camera,
        )
        picture = view_to_picture(view)
        return None if picture is None else shrink_picture(picture, self.config.downsample)

    def _object_facts(self, scan: SceneScan, labels: dict[int, str], chosen: dict[int, list[int]]) -> dict:
        known = set(scan.surface.object_ids.tolist())
        carries = carried_objects(scan.surface, [uid for uid in labels if uid in known], self.scene.axis_alignment)
        return {
            str(uid): {
                "label": label,
                "category": category(label, self.table),
                "centre": np.round(scan.surface.centre(uid), 4).tolist(),
                "views": [self._frame_name(i) for i in chosen.get(uid, ())],
                "carries": carries[uid],
            }
            for uid, label in labels.items()
            if uid in known
        }

    def _read_source(self, i: int) -> SourceView:
        scene = self.scene
        return SourceView(scene.color(i), scene.color_camera, scene.depth(i), scene.depth_camera, scene.poses[i])

    def _frame_name(self, i: int) -> str:
        return f"{int(self.scene.frame_ids[i]):06d}"

    def _size(self) -> list[int]:
        camera = self.scene.color_camera
        return [camera.width // self.config.downsample, camera.height // self.config.downsample]


def _why_not_chosen(judged: int, accepted: int, selection: SelectionConfig) -> str:
    """Why an object that is worth asking for has no views."""
    if judged == 0:
        return "never_seen"
    if accepted == 0:
        return "no_good_view"
    return "too_few_good_views" if accepted < selection.min_views else "views_too_alike"


def _view_facts(view: ObjectView) -> dict:
    return {
        "state": view.state.value,
        "certainly_hidden": view.certainly_hidden,
        "counts": view.counts.tolist(),
        "fraction": round(view.fraction, 4),
        "area": view.area,
        "box": None if view.box is None else list(view.box),
        "border_distance": view.border_distance,
        "distance": round(view.distance, 4),
        "direction": np.round(view.direction, 5).tolist(),
        "elevation": round(view.elevation, 4),
        "hole_share": round(view.hole_share, 4),
    }


def _positive(counter) -> dict[str, int]:
    return {key: int(value) for key, value in sorted(counter.items()) if value > 0}
