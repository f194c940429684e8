"""Questions become training samples: pictures with marks and grids, prompts, answers, in LLaVA's form.

A sample is ``{"id", "image", "conversations": [{"from": "human"}, {"from": "gpt"}], ...}``. ``image`` is a path or a
list of paths, ``depth`` the same for the depth pictures. Prompts hold no ``<image>``: the loader of the sample
puts exactly one per picture in front.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from roboref_core.prompting import prompt
from roboref_core.prompting.answer_text import format_answer
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.marker import Marker
from roboref_core.prompting.prompt import DrawnMark, Form
from roboref_core.prompting.reasoning import format_reasoning
from roboref_core.prompting.side_by_side import SideBySide

from offline.data_engine.filters import is_named
from offline.data_engine.five_frames import ViewFiles, depth_path
from offline.data_engine.sealed_folder import Draft
from offline.data_engine.tasks.ground_truth import ground_truth_pixel, normalised
from offline.data_engine.tasks.kinds import TASKS, refuse_unknown
from offline.data_engine.tasks.pairs import TIERS, Pair, SceneViews, can_be_removed
from offline.data_engine.tasks.reasoning import read_step
from offline.files import read_mask, read_picture

_MARGIN = 2.0
"""Of a mask's rim, where a scene does not say how far its colour and depth are apart (at 640 pixels width)."""
_LEAST_MARGIN = 1.0
"""However well they fit: pixels at the outline hold both colours [pixel]."""
_CACHED = 16
"""Decoded pictures kept at a time: the views of an object, and their marked copies, are joined again and again."""


@dataclass(frozen=True)
class SampleConfig:
    """What is asked, and how it is shown.

    Attributes:
        tasks: which to make.
        forms: of T1: two pictures, or both side by side in one.
        with_grid: make a second set of the same samples, with a Visual Grid Coordinate over the queried picture.
        grid: its lines and labels.
        marker: drawn on the reference view.
        name_object: tell the label of the marked object in the prompt.
        points: how the ground-truth point is drawn. "mask" is the published rule: the middle of the mask's tight box if
            it lies in the mask, else uniform in the mask. "inside" is that rule on the mask without its rim. "auto" is
            "mask" for trees that were made elsewhere, "inside" for ours.
        margin_px: of that rim (at 640 pixels width); None: as far as colour and depth of the scene were measured to be
            apart, 2 where that is not known.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    forms: tuple[Form, ...] = (Form.MULTI, Form.CONCAT)
    with_grid: bool = True
    grid: Grid = field(default_factory=Grid)
    marker: Marker = field(default_factory=Marker)
    name_object: bool = True
    points: Literal["auto", "mask", "inside"] = "auto"
    margin_px: float | None = None

    def __post_init__(self):
        refuse_unknown(self.tasks)


@dataclass
class Dropped:
    """Samples that were not made, by reason."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + count


class SampleMaker:
    """Makes the samples of one scene. Each picture is drawn once and shared.

    Args:
        scene: whose views are marked.
        pictures: for marked, gridded and joined pictures.
        folder: where they will lie once all are drawn.
        config: what to make.
        seed: of the points.
    """

    def __init__(self, scene: SceneViews, pictures: Draft, folder: Path, config: SampleConfig, seed: int):
        self.scene = scene
        self.pictures = pictures
        self.folder = folder
        self.config = config
        self.seed = seed
        self.dropped = Dropped()
        self._grids = (None, config.grid) if config.with_grid else (None,)
        self._points: dict[tuple[int, str, int], tuple[int, int]] = {}
        self._read = lru_cache(_CACHED)(read_picture)

    def samples(self, pairs: Iterable[Pair]) -> Iterator[dict]:
        """Those of every task, in the order in which they are written."""
        for pair in pairs:
            yield from self._pair_samples(pair)
        yield from self._difference_samples()
        yield from self._referring_samples()

    def _pair_samples(self, pair: Pair) -> Iterator[dict]:
        """T1 in its forms, and T2A, from one pair; each with and without grid."""
        mark_pixel = self._point(pair.reference)
        answer_pixel = self._point(pair.query_view) if pair.query_view else None
        for task in ("t1", "t2a"):
            if task not in self.config.tasks:
                continue
            for form in self.config.forms if task == "t1" else (Form.MULTI,):
                for grid in self._grids:
                    yield self._pair_sample(pair, task, form, grid, mark_pixel, answer_pixel)

    def _difference_samples(self) -> Iterator[dict]:
        """T2B of every view that has an inpainted picture."""
        if "t2b" not in self.config.tasks:
            return
        for uid in sorted(self.scene.objects):
            if not can_be_removed(self.scene, uid):
                self.dropped.add("carries_others")
                continue
            for view in self.scene.objects[uid]:
                if view.inpainted is None:
                    continue
                pixel = self._point(view)
                for grid in self._grids:
                    yield self._difference_sample(view, pixel, grid)

    def _referring_samples(self) -> Iterator[dict]:
        """One sample per phrase of the scene's facts."""
        if self.scene.facts is None:
            return
        frames = self.scene.facts["frames"]
        for number, phrase in enumerate(self.scene.facts["referring"]):
            task, forms = ("reasoning", ("single", "steps")) if phrase.get("steps") else ("referring", ("single",))
            if task not in self.config.tasks:
                continue
            picture = self.scene.folder / frames[phrase["frame"]]["picture"]
            for form in forms:
                for grid in self._grids:
                    yield self._referring_sample(task, form, phrase, number, picture, grid)

    def _pair_sample(self, pair, task, form, grid, mark_pixel, answer_pixel) -> dict:
        reference, marked = pair.reference, self._marked(pair.reference, mark_pixel)
        label = pair.label if self.config.name_object and is_named(pair.label) else ""
        answer = None
        if answer_pixel is not None:
            answer = np.array([normalised(answer_pixel, pair.query_view.size)])
        depth = self._existing(depth_path(reference.original), depth_path(pair.query))
        if form is Form.MULTI:
            query = self._gridded(pair.query, grid)
            image: list[str] | str = [str(self.folder / marked), str(query)]
            xy = None
        else:
            whole, side, whole_depth = self._joined(pair, marked, grid, depth)
            image, depth = str(whole), whole_depth
            xy = tuple(side.left_to_whole(np.array(normalised(mark_pixel, reference.size))).tolist())
            answer = None if answer is None else side.right_to_whole(answer)
        mark = DrawnMark(shape=self.config.marker.describe(), label=label, xy=xy)
        ask = prompt.correspondence if task == "t1" else prompt.missing
        return self._sample(
            task=task,
            form=form.value,
            grid=grid,
            key=(f"{pair.uid}", f"{reference.view:02d}", pair.query_scene, pair.query_frame, pair.reason or "visible"),
            image=image,
            depth=depth,
            question=ask(form=form, mark=mark, grid=grid),
            answer=format_answer(answer),
            uid=pair.uid,
            label=pair.label,
            ref_frame=reference.frame_id,
            ref_point=normalised(mark_pixel, reference.size),
            query_frame=pair.query_frame,
            query_original=str(pair.query),
            mask=str(pair.query_view.mask) if pair.query_view else None,
            visibility=_visibility(pair.reason) | dict(pair.geometry) | self._other_scene(pair),
        )

    def _difference_sample(self, view: ViewFiles, pixel: tuple[int, int], grid: Grid | None) -> dict:
        assert view.inpainted is not None
        query = self._gridded(view.inpainted, grid)
        return self._sample(
            task="t2b",
            form=Form.MULTI.value,
            grid=grid,
            key=(f"{view.uid}", f"{view.view:02d}", view.frame_id),
            image=[str(view.original), str(query)],
            depth=self._existing(depth_path(view.original), depth_path(view.inpainted)),
            question=prompt.difference(grid=grid),
            answer=format_answer([normalised(pixel, view.size)]),
            uid=view.uid,
            label=view.label,
            ref_frame=view.frame_id,
            query_frame=view.frame_id,
            query_original=str(view.inpainted),
            mask=str(view.mask),
            visibility=_visibility(""),
        )

    def _referring_sample(
        self, task: str, form: str, phrase: dict, number: int, picture: Path, grid: Grid | None
    ) -> dict:
        facts = self.scene.facts
        assert facts is not None, "phrases are among the facts"
        uid = phrase["uids"][0] if len(phrase["uids"]) == 1 else None
        depth = self._existing(depth_path(picture))
        steps = [read_step(step) for step in phrase.get("steps", ())]
        points = phrase["points"] or None
        told = {"step_count": phrase["step_count"], "steps": phrase["steps"]} if steps else {}
        return self._sample(
            task=task,
            form=form,
            grid=grid,
            key=(phrase["frame"], f"{number:04d}", phrase["relation"]),
            image=str(self._gridded(picture, grid)),
            depth=depth[0] if depth else None,
            question=prompt.referring(phrase["text"], grid=grid, steps=form == "steps"),
            answer=format_reasoning(steps, points) if form == "steps" else format_answer(points),
            uid=uid,
            label=facts["objects"][str(uid)]["label"] if uid is not None else "",
            ref_frame=None,
            query_frame=phrase["frame"],
            query_original=str(picture),
            mask=str(self.scene.folder / phrase["mask"]) if phrase["mask"] else None,
            visibility=_visibility(phrase["reason"]),
            relation=phrase["relation"],
            **told,
        )

    def _sample(self, *, task, form, grid, key, image, depth, question, answer, **fields) -> dict:
        gridded = "_grid" if grid else ""
        sample = {
            "id": "_".join((task, form + gridded, self.scene.scene_id, *key)),
            "image": image,
            "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
            "task": task,
            "form": form,
            "grid": grid is not None,
            "scene_id": self.scene.scene_id,
            **fields,
        }
        if depth:
            sample["depth"] = depth
        return sample

    def _other_scene(self, pair: Pair) -> dict:
        return {} if pair.query_scene == self.scene.scene_id else {"query_scene": pair.query_scene}

    def _margin(self, width: int) -> float:
        """Of the rim that no point is drawn from [pixel], in pictures of this width."""
        ours = self.scene.facts is not None
        if self.config.points == "mask" or (self.config.points == "auto" and not ours):
            return 0.0
        if self.config.margin_px is not None:
            return self.config.margin_px * width / 640
        measured = self.scene.facts.get("misalignment_px") if self.scene.facts is not None else None
        if measured is None or self.scene.facts is None:
            return _MARGIN * width / 640
        return max(_LEAST_MARGIN, measured * width / self.scene.facts["source_size"][0])

    def _point(self, view: ViewFiles) -> tuple[int, int]:
        """The view's ground-truth pixel."""
        key = (view.uid, view.frame_id, view.view)
        if key not in self._points:
            mask = read_mask(view.mask)
            margin = self._margin(mask.shape[1])
            self._points[key] = ground_truth_pixel(
                mask, self.seed, view.scene_id, view.uid, view.frame_id, margin=margin
            )
        return self._points[key]

    def _marked(self, view: ViewFiles, pixel: tuple[int, int]) -> str:
        name = f"uid_{view.uid}/{view.original.stem}_marked.jpg"
        if name not in self.pictures:
            self.pictures.picture(name, self.config.marker.draw(self._read(view.original), pixel))
        return name

    def _gridded(self, picture: Path, grid: Grid | None) -> Path:
        if grid is None:
            return picture
        name = f"grid/{_unique_stem(picture)}_grid.jpg"
        if name not in self.pictures:
            self.pictures.picture(name, grid.draw(self._read(picture)))
        return self.folder / name

    def _joined(self, pair: Pair, marked: str, grid: Grid | None, depth: list[str] | None):
        """The A | B picture, its layout, and its depth picture (None without depth)."""
        left, right = self._read(self.pictures.folder / marked), self._read(pair.query)
        side = SideBySide(left.shape[1::-1], right.shape[1::-1])
        stem = f"uid_{pair.uid}/{Path(marked).stem}_{_unique_stem(pair.query)}"
        name = f"{stem}_concat{'_grid' if grid else ''}.jpg"
        if name not in self.pictures:
            whole = side.compose(left, right)
            self.pictures.picture(name, grid.draw(whole) if grid else whole)
        if not depth:
            return self.folder / name, side, None
        # One depth picture serves both: the grid is drawn over the colours only.
        depth_name = f"{stem}_concat_depth.png"
        if depth_name not in self.pictures:
            self.pictures.picture(depth_name, side.compose(*(self._read(Path(d)) for d in depth)))
        return self.folder / name, side, str(self.folder / depth_name)

    def _existing(self, *paths: Path) -> list[str] | None:
        """The depth pictures, if every one exists."""
        return [str(path) for path in paths] if all(path.is_file() for path in paths) else None


def _visibility(reason: str) -> dict:
    if not reason:
        return {"visible": True}
    return {"visible": False, "reason": reason, "tier": TIERS[reason]}


def _unique_stem(picture: Path) -> str:
    """A name for a picture that is unique among all scenes: what lies above it, joined."""
    parts = [part for part in picture.parent.parts[-2:] if part != "frames"]
    return "_".join((*parts, picture.stem))
