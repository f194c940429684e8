"""How many labels are wrong, before and after the filters, where the truth is known: in simulated scans.

The truth is the mesh drawn from true poses. What is built may come from the same scans, or from copies with errors of
poses and sensor. "Before" is what the same frames and objects give without any filter: each view that counts as
visible with the published rule's point, each other as NOT_VISIBLE. "After" is what stands in the task files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from roboref_core.prompting.answer_text import NOT_VISIBLE
from roboref_core.scene import BadFrame, Instances, Scene
from roboref_core.views.visibility import Visibility

from offline.data_engine.five_frames import mask_box
from offline.data_engine.seeing.frame_quality import keyframes
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import FrameVisibility
from offline.data_engine.seeing.zbuffer import Projection
from offline.data_engine.sources import open_scene
from offline.data_engine.sources.labels import structural_family
from offline.data_engine.task_files import answer_points, read_samples, turns
from offline.data_engine.tasks.expressions import could_be_meant
from offline.data_engine.tasks.ground_truth import ground_truth_pixel
from offline.eval.scoring.intervals import wilson
from offline.files import read_mask

_CLEAR = 1.5e-4
"""Share of the picture from which a thing's visible part is clearly there."""
_SAME_MASK = 0.5
"""Masks with a lower intersection over union are wrong."""
_FRAMES = 60
"""So many keyframes of a scan, evenly spaced, stand for all of them before the filters."""
_CACHED = 256


class Truth:
    """Which object every pixel of a frame shows, from true poses.

    Args:
        scene: a simulated scan.
    """

    def __init__(self, scene: Scene):
        mesh, instances = scene.mesh(), scene.instances()
        if mesh is None or instances is None:
            raise ValueError(f"scene {scene.scene_id}: no mesh or no instances; the truth needs both")
        self.labels = _movable(instances)
        self._surface, self._scene = Surface.build(mesh, instances), scene
        self._position = {int(frame): i for i, frame in enumerate(scene.frame_ids)}
        self.ids = lru_cache(_CACHED)(self._ids)

    def _ids(self, frame: int) -> np.ndarray:
        """(H, W) int32 object ids of a frame of the source, by its number. Raises ValueError if it has none."""
        if frame not in self._position:
            raise ValueError(f"scene {self._scene.scene_id}: no frame {frame}; is this the scan that was built from?")
        return (
            Projection(self._surface, self._scene.color_camera, self._scene.poses[self._position[frame]]).render().ids
        )

    def visible(self, frame: int, label: str) -> list[int]:
        """Objects that are clearly visible and that somebody who hears ``label`` could take for it."""
        ids = self.ids(frame)
        counts = np.bincount(ids.ravel(), minlength=max(self.labels, default=0) + 1)
        return [
            uid for uid, own in self.labels.items() if counts[uid] >= _CLEAR * ids.size and could_be_meant(label, own)
        ]


@dataclass
class Noise:
    """Labels by task, and how many of them are wrong, by what is wrong with them."""

    judged: Counter = field(default_factory=Counter)
    wrong: Counter = field(default_factory=Counter)
    faults: Counter = field(default_factory=Counter)

    def add(self, task: str, fault: str) -> None:
        """Count one label; ``fault`` is "point", "mask", "visibility", "phrase", or "" if it is right."""
        self.judged[task] += 1
        if fault:
            self.wrong[task] += 1
            self.faults[task, fault] += 1

    def lines(self) -> Iterator[str]:
        for task in sorted(self.judged):
            wrong, judged = self.wrong[task], self.judged[task]
            low, high = wilson(wrong, judged)
            kinds = ", ".join(f"{n} {fault}" for (name, fault), n in sorted(self.faults.items()) if name == task)
            share = f"{wrong / judged:7.2%} ({low:.2%} to {high:.2%})"
            yield f"  {task:10s} {wrong:6d} of {judged:7d}  {share}  {kinds}".rstrip()


def label_noise(out: Path, scenes: dict[str, list[str]], truth_scans: Path, built_scans: Path) -> str:
    """Label noise before and after, in words.

    Args:
        out: folder that ``build`` wrote.
        scenes: split -> its scenes; those without a scan in ``truth_scans`` are left out.
        truth_scans: simulated scans with true poses.
        built_scans: the scans that were built from.

    Raises:
        ValueError: none of the scenes has a scan in ``truth_scans``.
    """
    before, after, judged = Noise(), Noise(), 0
    for split, names in sorted(scenes.items()):
        for name in names:
            if not (truth_scans / name).is_dir():
                continue
            judged += 1
            truth = Truth(open_scene(truth_scans / name))
            for task, fault in unfiltered(open_scene(built_scans / name), truth):
                before.add(task, fault)
            for _, sample in read_samples(out / "tasks" / "records" / split / f"{name}.jsonl"):
                if isinstance(sample, dict) and _is_judged(sample, name):
                    after.add(sample["task"], fault_of(sample, truth))
    if not judged:
        raise ValueError(f"{truth_scans}: no scan of the scenes in {out}")
    title = f"wrong labels in {judged} simulated scenes (share, 95 % interval)"
    ratio = _share(after, ("t1",)) / max(_share(before, ("t1",)), 1e-9)
    return "\n".join(
        [
            f"{title}, before the filters",
            *before.lines(),
            "after",
            *after.lines(),
            f"  t1: {1 - ratio:.0%} fewer of its labels are wrong" if before.wrong["t1"] else "  t1: none wrong before",
        ]
    )


def _share(noise: Noise, tasks: tuple[str, ...]) -> float:
    judged = sum(noise.judged[task] for task in tasks)
    return sum(noise.wrong[task] for task in tasks) / judged if judged else 0.0


def _is_judged(sample: dict, scene: str) -> bool:
    """Pictures of other scenes and painted ones have no truth here; grids and joined pictures show the same again."""
    reason = sample["visibility"].get("reason")
    known = sample["task"] in ("t1", "t2a", "referring") and reason not in ("inpainted", "absent")
    free = sample.get("relation", "").startswith("free_")
    return known and not free and not sample["grid"] and sample["form"] != "concat" and sample["scene_id"] == scene


def fault_of(sample: dict, truth: Truth) -> str:
    """What is wrong with a sample of ours: "point", "mask", "visibility", "phrase"; "" if it is right."""
    frame = int(sample["query_frame"])
    ids = truth.ids(frame)
    answer = turns(sample, "gpt")[0]
    if sample["task"] == "referring":
        return _fault_of_phrase(sample, truth, frame, answer)
    shown = ids == sample["uid"]
    if answer == NOT_VISIBLE:
        return "visibility" if shown.any() else ""
    if not shown.any():
        return "visibility"
    if not all(shown[_pixel(point, ids)] for point in answer_points(answer)):
        return "point"
    mask = read_mask(Path(sample["mask"]))
    return "mask" if mask.shape == shown.shape and _overlap(mask > 0, shown) < _SAME_MASK else ""


def _fault_of_phrase(sample: dict, truth: Truth, frame: int, answer: str) -> str:
    relation, ids = sample["relation"], truth.ids(frame)
    if answer == NOT_VISIBLE:
        # The label is not among the fields of what is not there; its thing was hidden by geometry.
        return ""
    points = answer_points(answer)
    at = [int(ids[_pixel(point, ids)]) for point in points]
    if any(uid not in truth.labels for uid in at) or (sample["uid"] is not None and at != [sample["uid"]]):
        return "point"
    seen = truth.visible(frame, truth.labels[at[0]])
    if relation == "unique":
        return "" if seen == at else "phrase"
    if relation == "all":
        return "" if set(seen) <= set(at) else "phrase"
    if relation in ("leftmost", "rightmost"):
        boxes = {uid: mask_box(ids == uid) for uid in {*seen, *at}}
        middles = {uid: box[0] + box[2] for uid, box in boxes.items()}
        best = (min if relation == "leftmost" else max)(middles, key=middles.__getitem__)
        return "" if best == at[0] else "phrase"
    return ""


def unfiltered(scene: Scene, truth: Truth) -> Iterator[tuple[str, str]]:
    """("t1", fault) of what a scan gives without filters."""
    mesh, instances = scene.mesh(), scene.instances()
    assert mesh is not None and instances is not None
    surface = Surface.build(mesh, instances)
    chosen = keyframes(scene.poses)
    for i in chosen[:: max(1, len(chosen) // _FRAMES)].tolist():
        try:
            frame = FrameVisibility(
                surface, scene.color_camera, scene.poses[i], scene.depth(i), scene.depth_camera
            )  # fmt: skip
        except BadFrame:
            continue
        number = int(scene.frame_ids[i])
        ids = truth.ids(number)
        for uid in truth.labels:
            shown = ids == uid
            view, mask, _ = frame.observe(uid)
            if view.state == Visibility.OUT_OF_FRUSTUM and not shown.any():
                continue
            if view.state != Visibility.VISIBLE or not mask.any():
                yield "t1", "visibility" if np.count_nonzero(shown) >= _CLEAR * ids.size else ""
                continue
            u, v = ground_truth_pixel(mask, "noise", scene.scene_id, uid, number)
            if not shown.any():
                yield "t1", "visibility"
            elif not shown[v, u]:
                yield "t1", "point"
            else:
                yield "t1", "mask" if _overlap(mask, shown) < _SAME_MASK else ""


def _movable(instances: Instances) -> dict[int, str]:
    return {uid: label for uid, label in sorted(instances.labels.items()) if structural_family(label) is None}


def _pixel(point: tuple[float, float], ids: np.ndarray) -> tuple[int, int]:
    h, w = ids.shape
    return min(int(point[1] * h), h - 1), min(int(point[0] * w), w - 1)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return int(np.count_nonzero(a & b)) / max(1, int(np.count_nonzero(a | b)))
