"""What a rendered view shows, and the phrases that are true of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, transform

from offline.data_engine.five_frames import mask_box
from offline.data_engine.tasks import expressions as ex
from offline.data_engine.tasks import relations
from offline.data_engine.tasks.free_space import level_pixels, vacant
from offline.data_engine.tasks.ground_truth import innermost_pixel
from offline.data_engine.tasks.referring import SUPPORTS
from offline.data_engine.tasks.relations import SeenObject
from sim.rooms.renderer import Renderer, Rendering

# As the data engine's defaults for views of an object, and for what is named in phrases.
_MIN_FRACTION, _MIN_AREA, _MIN_IN_FRAME = 0.3, 0.0015, 0.9
_NAMED_FRACTION, _NAMED_AREA = 0.4, 0.001
_CLEARANCE = 0.012
_SURFACE_POINTS = 400


@dataclass(frozen=True)
class SceneFacts:
    """What phrases need to know of a scene's objects: label, colour name and (n, 3) surface points, by id."""

    labels: Mapping[int, str]
    colors: Mapping[int, str]
    points: Mapping[int, np.ndarray]

    @classmethod
    def of(cls, renderer: Renderer) -> SceneFacts:
        scene = renderer.scene
        points = {}
        for o in scene.furniture:
            vertices = renderer.alone(o.object_id).scene.geometry.vertices.astype(np.float64)
            points[o.object_id] = vertices[:: -(-len(vertices) // _SURFACE_POINTS)]
        labels = {o.object_id: o.label for o in scene.furniture}
        return cls(labels, {o.object_id: o.color for o in scene.furniture}, points)


@dataclass(frozen=True)
class Seen:
    """One object in one view.

    Attributes:
        area: pixels that show it, as a share of the picture.
        fraction: of its silhouette that is visible.
        clear: visible enough to ask for it.
    """

    uid: int
    area: float
    fraction: float
    clear: bool


@dataclass(frozen=True)
class Phrase:
    """Words about one view.

    Attributes:
        relation: "unique", "left", "color", ...; "absent" for what is not there.
        text: the words.
        uids: objects to point to, one point each; none for "absent".
    """

    relation: str
    text: str
    uids: tuple[int, ...]


def seen_objects(
    renderer: Renderer, facts: SceneFacts, camera: Camera, T_world_camera: np.ndarray, rendering: Rendering
) -> tuple[list[Seen], ex.FrameObjects]:
    """All objects of which a view shows a pixel, and the same as the data engine's expressions want them."""
    seen, named, undecided, hidden = [], [], [], []
    total = rendering.ids.size
    counts = np.bincount(rendering.ids.ravel(), minlength=256)
    T_camera_world = inverse(T_world_camera)
    for uid, label in facts.labels.items():
        if not counts[uid]:
            hidden.append(label)
            continue
        alone = renderer.alone(uid).render(camera, T_world_camera, color=False).ids > 0
        fraction = float(counts[uid] / max(1, alone.sum()))
        area = float(counts[uid] / total)
        in_frame = float(camera.contains(camera.project(transform(T_camera_world, facts.points[uid]))).mean())
        clear = fraction >= _MIN_FRACTION and area >= _MIN_AREA and in_frame >= _MIN_IN_FRAME
        seen.append(Seen(uid, area, fraction, clear))
        if fraction >= _NAMED_FRACTION and area >= _NAMED_AREA:
            mask = rendering.ids == uid
            near, middle, far = np.percentile(rendering.depth[mask], (5, 50, 95))
            named.append(
                SeenObject(uid, label, mask_box(mask), (float(near), float(middle), float(far)), facts.points[uid])
            )
        else:
            undecided.append(label)
    return seen, ex.FrameObjects(tuple(named), tuple(undecided), tuple(hidden), camera.width)


def phrases(frame: ex.FrameObjects, facts: SceneFacts, rng: np.random.Generator) -> Iterator[Phrase]:
    """The data engine's expressions, and those that a colour makes unambiguous."""
    for expression in ex.expressions(frame, rng):
        yield Phrase(expression.relation, expression.text, expression.uids)
    anchors = ex.nameable_anchors(frame)
    for o in frame.seen:
        color = facts.colors[o.uid]
        rivals = [other for other in frame.seen if other.uid != o.uid and ex.could_be_meant(o.label, other.label)]
        if any(facts.colors[other.uid] == color for other in rivals):
            continue
        if any(ex.could_be_meant(o.label, label) for label in frame.undecided):
            continue
        name = f"{color} {o.label}"
        yield Phrase("color", ex.phrase_text("unique", rng, a=name), (o.uid,))
        for anchor in anchors:
            if ex.could_be_meant(o.label, anchor.label):
                continue
            for relation, holds in relations.ANCHORED.items():
                if holds(o, anchor):
                    yield Phrase(f"color_{relation}", ex.phrase_text(relation, rng, a=name, b=anchor.label), (o.uid,))


def absent_phrases(frame: ex.FrameObjects, facts: SceneFacts, rng: np.random.Generator) -> Iterator[Phrase]:
    """What the scene has but the view does not show; and things of a colour that none of their kind has here.

    Each by itself ("absent", "absent_color"), and with where it would be ("absent_related", "absent_color_related").
    """
    plain = (*ex.ORDERED, *relations.ANCHORED, *ex.MEASURED)
    # What is visible is told by its colour with these relations alone: others would tell that it is not there.
    colored = tuple(relations.ANCHORED)
    names: list[tuple[str, str, tuple[str, ...]]] = []
    for label in ex.absent_labels(frame):
        color = rng.choice([facts.colors[uid] for uid, own in facts.labels.items() if own == label])
        names.append(("absent", f"{color} {label}", colored) if rng.random() < 0.4 else ("absent", label, plain))
    palette = sorted(set(facts.colors.values()))
    for o in frame.seen:
        taken = {facts.colors[uid] for uid, label in facts.labels.items() if ex.could_be_meant(o.label, label)}
        if free := [color for color in palette if color not in taken]:
            names.append(("absent_color", f"{rng.choice(free)} {o.label}", colored))
    for kind, name, told in names:
        yield Phrase(kind, ex.absent_expression(name, frame, rng).text, ())
        related = ex.absent_expression(name, frame, rng, told)
        if related.relation != "absent":
            yield Phrase(f"{kind}_related", related.text, ())


def free_space(
    frame: ex.FrameObjects, camera: Camera, T_world_camera: np.ndarray, rendering: Rendering, rng: np.random.Generator
) -> Iterator[tuple[Phrase, tuple[int, int]]]:
    """Phrases about vacant places on tables and the like, each with its pixel (u, v)."""
    anchors = ex.nameable_anchors(frame)
    for support in anchors:
        if support.label not in SUPPORTS:
            continue
        mask = rendering.ids == support.uid
        level = level_pixels(rendering.depth, camera, T_world_camera, support.box)
        free = vacant(mask, level, mask, max(2, round(_CLEARANCE * camera.width)))
        columns = np.arange(camera.width)
        parts = [("free_on", {"b": support.label}, free)]
        for o in anchors:
            if o.uid != support.uid and relations.on(o, support):
                names = {"b": support.label, "c": o.label}
                parts += [
                    ("free_left", names, free & (columns < o.box[0])),
                    ("free_right", names, free & (columns > o.box[2])),
                ]
        for relation, names, part in parts:
            if part.any():
                yield Phrase(relation, ex.phrase_text(relation, rng, **names), ()), innermost_pixel(part)
