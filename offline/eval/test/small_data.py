"""Small data in the data engine's format: random pictures, each with one blob of an object, in a few scenes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from roboref_core.prompting import prompt
from roboref_core.prompting.answer_text import format_answer
from roboref_core.prompting.prompt import DrawnMark, Form
from roboref_core.prompting.side_by_side import SideBySide

from offline.data_engine.tasks.ground_truth import ground_truth_pixel, normalised
from offline.files import write_picture

REASONS = ("out_of_frustum", "occluded", "absent", "same_class_elsewhere")
FILES = ("t1_val_multi", "t1_val_concat", "t2a_val_multi", "t2b_val_multi")


class SmallData:
    """Two views of each object, of unlike sizes, under ``folder``; ``write`` makes the task files of them.

    Args:
        objects: number of objects, dealt to ``scenes`` scenes in turn.
    """

    def __init__(self, folder: Path, objects: int = 12, scenes: int = 4, seed: int = 0):
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.objects = [self._object(uid, f"scene{uid % scenes:04d}_00") for uid in range(objects)]

    def _object(self, uid: int, scene: str) -> dict:
        views = [self._view(scene, uid, number, size) for number, size in enumerate([(64, 48), (80, 60)], start=1)]
        return {"uid": uid, "scene": scene, "label": ("mug", "lamp", "chair")[uid % 3], "views": views}

    def _view(self, scene: str, uid: int, number: int, size: tuple[int, int]) -> dict:
        stem = self.folder / "validation" / scene / f"uid_{uid}" / f"{number:02d}_{number * 10:06d}"
        image = cv2.resize(self.rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
        mask = np.zeros(size[::-1], np.uint8)
        centre = [int(self.rng.integers(14, side - 14)) for side in size]
        cv2.ellipse(mask, centre, [int(self.rng.integers(4, 12)) for _ in range(2)], 0, 0, 360, 255, cv2.FILLED)
        painted = np.where(mask[..., None] > 0, self.rng.integers(0, 255, 3, dtype=np.uint8), image)
        paths = {kind: Path(f"{stem}_{kind}.png") for kind in ("original", "inpainted", "mask")}
        write_picture(paths["original"], painted)
        write_picture(paths["inpainted"], image)
        write_picture(paths["mask"], mask)
        pixel = ground_truth_pixel(mask, 0, scene, uid, number)
        return paths | {"size": size, "xy": normalised(pixel, size), "picture": painted}

    def samples(self, name: str) -> list[dict]:
        """Of the file ``name``: every object once visible and, but for T2B, once not."""
        task, _, form = name.split("_")
        made = []
        for thing in self.objects:
            made.append(self._sample(thing, task, Form(form), None))
            if task != "t2b":
                made.append(self._sample(thing, task, Form(form), REASONS[thing["uid"] % len(REASONS)]))
        return made

    def _sample(self, thing: dict, task: str, form: Form, reason: str | None) -> dict:
        a, b = thing["views"]
        b = b if reason is None else {**self.objects[(thing["uid"] + 1) % len(self.objects)]["views"][1]}
        answer = None if reason else np.array(b["xy"])
        image: str | list[str] = [str(a["original"]), str(b["original"])]
        text = prompt.correspondence(mark=DrawnMark(label=thing["label"]))
        if task == "t2a":
            text = prompt.missing(mark=DrawnMark(label=thing["label"]))
        if task == "t2b":
            text, image, b = prompt.difference(), [str(a["original"]), str(a["inpainted"])], a
            answer = np.array(a["xy"])
        if form is Form.CONCAT:
            layout = SideBySide(a["size"], b["size"])
            mark = DrawnMark(label=thing["label"], xy=tuple(layout.left_to_whole(np.array(a["xy"]))))
            text = prompt.correspondence(form, mark)
            path = self.folder / "pictures" / f"{thing['uid']}_{reason}_concat.png"
            write_picture(path, layout.compose(a["picture"], b["picture"]))
            image, answer = str(path), None if answer is None else layout.right_to_whole(answer)
        visible = {"visible": True} if reason is None else {"visible": False, "reason": reason}
        return {
            "id": f"{task}_{form.value}_{thing['scene']}_{thing['uid']}_{reason or 'visible'}",
            "image": image,
            "conversations": [
                {"from": "human", "value": text},
                {"from": "gpt", "value": format_answer(None if answer is None else [answer])},
            ],
            "task": task,
            "form": form.value,
            "scene_id": thing["scene"],
            "uid": thing["uid"],
            "label": thing["label"],
            "query_original": str(b["inpainted"] if task == "t2b" else b["original"]),
            "mask": None if reason else str(b["mask"]),
            "visibility": visible | {"baseline": 0.3 + 0.4 * thing["uid"]},
        }

    def write(self, name: str) -> Path:
        """The file ``name`` (see FILES) as JSON."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(self.samples(name)))
        return path


def answer_line(sample_id: str, text: str, **changes) -> dict:
    """A prediction as a text-only backend would leave it."""
    return {
        "kind": "prediction",
        "id": sample_id,
        "key": sample_id,
        "text": text,
        "points": None,
        "visible": None,
        "p_visible": None,
    } | changes
