"""Referring facts of one frame: phrases with their points and masks, ready to become training samples."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from roboref_core.geometry.pose import transform
from roboref_core.prompting.reasoning import ReasoningStep
from roboref_core.seeds import rng_of
from roboref_core.views.visibility import Visibility

from offline.data_engine.filters import is_named
from offline.data_engine.five_frames import mask_box
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import FrameVisibility, ObjectView
from offline.data_engine.tasks import expressions as ex
from offline.data_engine.tasks import relations
from offline.data_engine.tasks.chain_solver import solve_spot
from offline.data_engine.tasks.chain_words import MAX_STEPS, Spot, Thing, Told, sentence
from offline.data_engine.tasks.chains import Named, chain_of, named_things
from offline.data_engine.tasks.free_space import level_pixels, vacant
from offline.data_engine.tasks.ground_truth import ground_truth_pixel, innermost_pixel, normalised
from offline.data_engine.tasks.relations import SeenObject

_SAMPLED = 1500
"""Surface points per object that relations are computed from."""
_TOP = 0.1
"""Free space on a support is at most this far below its highest point [m]."""
_DEPTH_CLEARANCE = 0.03
"""In front of a thing and behind it begins so far from its surface [m]."""
_SPECKLE = 0.008
"""Thinner differences of sensor and mesh are noise at outlines (share of the picture's width)."""
SUPPORTS = ("table", "desk", "nightstand", "counter", "dresser", "bench", "coffee table", "side table", "end table")


@dataclass(frozen=True)
class ReferringConfig:
    """Which phrases are made.

    Attributes:
        per_frame: most phrases per frame, drawn at random over the relations, so that no relation floods the rest.
        absent_per_frame: most NOT_VISIBLE phrases per frame that name a kind and no more.
        absent_related_per_frame: most that say where the thing would be.
        free_per_frame: most free-space phrases per frame.
        min_area: an object is named only if it covers this share of the picture.
        min_fraction: and this share of its silhouette is visible.
        clearance: of a free-space point from edges and objects, as a share of the picture's width.
        margin_px: of every other point from its mask's rim (three times this, if it is not the box's middle), at 640
            pixels width; more where colour and depth of the scene are farther apart. 0: none, whatever was measured.
        hidden_share: of a thing's size, that something the mesh does not explain must have to be taken for another one.
        chains_per_frame: most phrases of several steps per frame, spread over numbers of steps and relations.
        chain_steps: most things that such a phrase names.
    """

    per_frame: int = 6
    absent_per_frame: int = 1
    absent_related_per_frame: int = 1
    free_per_frame: int = 2
    min_area: float = 0.001
    min_fraction: float = 0.4
    clearance: float = 0.012
    margin_px: float = 2
    hidden_share: float = 0.5
    chains_per_frame: int = 3
    chain_steps: int = MAX_STEPS

    def __post_init__(self):
        if not 2 <= self.chain_steps <= MAX_STEPS:
            raise ValueError(f"chain_steps: expected 2 to {MAX_STEPS}, found {self.chain_steps}")


@dataclass(frozen=True)
class Referring:
    """One phrase about one frame.

    Attributes:
        relation, text: see ``expressions``.
        uids: objects to point to; empty for free space and for what is not there.
        pixels: (u, v) of the points; empty means NOT_VISIBLE.
        mask: (H, W) bool, where a point counts as right; None for NOT_VISIBLE.
        reason: why nothing is visible, else "".
        count: how many things have to be found, the asked one included; 0 where it is not told in steps.
        steps: the findings that lead there.
    """

    relation: str
    text: str
    uids: tuple[int, ...]
    pixels: tuple[tuple[int, int], ...]
    mask: np.ndarray | None
    reason: str = ""
    count: int = 0
    steps: tuple[ReasoningStep, ...] = ()


def referring_expressions(
    frame: FrameVisibility,
    views: dict[int, ObjectView],
    masks: dict[int, np.ndarray],
    confirmed: dict[int, np.ndarray],
    labels: dict[int, str],
    axis_alignment: np.ndarray,
    config: ReferringConfig,
    seed: tuple[str | int, ...],
    misalignment: float = 0.0,
) -> list[Referring]:
    """Phrases about a frame.

    Args:
        frame: visibility on the colour grid.
        views: of every object that is not part of the building.
        masks, confirmed: (H, W) bool of those that are visible, as ``FrameVisibility.observe`` gives them.
        labels: id -> label, of all those objects.
        axis_alignment: T_aligned_world; relations of the world are computed along its axes.
        seed: identifies the frame: (seed, scene, frame).
        misalignment: of colour and depth [pixel of colour].
    """
    rng = rng_of("referring", *seed)
    objects = _frame_objects(frame, views, masks, labels, axis_alignment, config)
    margin = max(config.margin_px * frame.camera.width / 640, misalignment) if config.margin_px > 0 else 0.0
    found = []
    for expression in ex.expressions(objects, rng):
        pixels = tuple(ground_truth_pixel(masks[uid], *seed, uid, margin=margin) for uid in expression.uids)
        mask = np.any([masks[uid] for uid in expression.uids], axis=0)
        found.append(Referring(expression.relation, expression.text, expression.uids, pixels, mask))
    kept = _draw(found, config.per_frame, rng)
    areas = _free_areas(frame, objects, masks, confirmed, config)
    free = list(_free_space(frame, objects, areas, rng))
    kept += _draw(free, config.free_per_frame, rng)
    kept += _chains(frame, objects, masks, areas, config, rng, seed, margin)
    absent = ex.absent_labels(objects)
    order = rng.permutation(len(absent))
    plain, related = config.absent_per_frame, config.absent_related_per_frame
    for place, k in enumerate(order[: plain + related]):
        told = (*ex.ORDERED, *relations.ANCHORED, *ex.MEASURED) if place >= plain else ()
        expression = ex.absent_expression(absent[k], objects, rng, told)
        states = {views[uid].state for uid, label in labels.items() if label == absent[k]}
        reason = Visibility.OCCLUDED if Visibility.OCCLUDED in states else Visibility.OUT_OF_FRUSTUM
        kept.append(Referring(expression.relation, expression.text, (), (), None, reason.value))
    return kept


def _draw(found: list[Referring], most: int, rng: np.random.Generator) -> list[Referring]:
    """At most ``most``, relation by relation in turn, so that frequent relations do not crowd out rare ones."""
    by_relation: dict[str, list[Referring]] = {}
    for k in rng.permutation(len(found)):
        by_relation.setdefault(found[k].relation, []).append(found[k])
    queues = [by_relation[name] for name in sorted(by_relation)]
    queues = [queues[k] for k in rng.permutation(len(queues))]
    kept: list[Referring] = []
    while queues and len(kept) < most:
        for queue in queues:
            kept.append(queue.pop())
        queues = [queue for queue in queues if queue]
    return kept[:most]


def _frame_objects(frame, views, masks, labels, axis_alignment, config) -> ex.FrameObjects:
    seen, undecided, hidden = [], [], []
    pixels = frame.camera.width * frame.camera.height
    for uid, view in sorted(views.items()):
        label = labels[uid]
        if view.certainly_hidden:
            if is_named(label):
                hidden.append(label)
        elif (
            view.state == Visibility.VISIBLE
            and view.area >= config.min_area * pixels
            and view.fraction >= config.min_fraction
            and is_named(label)
            and uid in masks
        ):
            depth = frame.zbuffer.depth[masks[uid]]
            near, middle, far = np.percentile(depth, (5, 50, 95))
            world = _sampled_points(frame.surface, uid, axis_alignment)
            seen.append(SeenObject(uid, label, view.box, (float(near), float(middle), float(far)), world))
        else:
            undecided.append(label)
    # A thing without a label may be one of any kind.
    unlabelled = (view.area for uid, view in views.items() if uid in masks and not labels[uid].strip())
    largest = max(_largest_unexplained(frame), *unlabelled, 0)
    areas: dict[str, list[int]] = {}
    for thing in seen:
        areas.setdefault(thing.label, []).append(views[thing.uid].area)
    uncounted = frozenset(label for label, found in areas.items() if largest >= config.hidden_share * min(found))
    return ex.FrameObjects(tuple(seen), tuple(undecided), tuple(hidden), frame.camera.width, uncounted)


def _largest_unexplained(frame: FrameVisibility) -> int:
    """Pixels of the largest thing that the sensor measured and the mesh lacks, on the grid of the picture."""
    measured, mesh = frame.sensor_depth(), frame.zbuffer.depth
    missing = (measured > 0) & ((mesh == 0) | (measured < mesh - 2 * frame.config.tolerance.at(mesh)))
    size = max(3, round(_SPECKLE * frame.camera.width))
    missing = cv2.morphologyEx(missing.astype(np.uint8), cv2.MORPH_OPEN, np.ones((size, size), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(missing, connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def carried_objects(surface: Surface, uids: list[int], axis_alignment: np.ndarray) -> dict[int, list[int]]:
    """Object -> the objects that stand or lie on it, as far as can be told."""
    objects = [
        SeenObject(uid, "", (0, 0, 0, 0), (0, 0, 0), _sampled_points(surface, uid, axis_alignment)) for uid in uids
    ]
    return {b.uid: [a.uid for a in objects if a.uid != b.uid and relations.on(a, b) is not False] for b in objects}


def _sampled_points(surface: Surface, uid: int, axis_alignment: np.ndarray) -> np.ndarray:
    points = surface.object_points(uid)
    points = points[:: -(-len(points) // _SAMPLED)]
    return transform(axis_alignment, points.astype(np.float64))


def _free_areas(frame, objects, masks, confirmed, config) -> list[tuple[SeenObject, np.ndarray]]:
    """Supports that can be named, each with (H, W) bool where its top is vacant."""
    clearance = max(2, round(config.clearance * frame.camera.width))
    found = []
    for support in ex.nameable_anchors(objects):
        if support.label not in SUPPORTS:
            continue
        box = mask_box(masks[support.uid])
        # "On the table" is its top, not the shelf below.
        top = frame.surface.upper[frame.surface.index(support.uid), 2] - _TOP
        level = level_pixels(frame.zbuffer.depth, frame.camera, frame.T_world_camera, box, above=top)
        free = vacant(masks[support.uid], level, confirmed[support.uid], clearance)
        if free.any():
            found.append((support, free))
    return found


def _free_space(frame, objects, areas, rng):
    columns = np.arange(frame.camera.width)
    for support, free in areas:
        named = [o for o in ex.nameable_anchors(objects) if o.uid != support.uid]
        standing = [o for o in named if relations.on(o, support)]
        yield _free("free_on", free, rng, b=support.label)
        for o in standing:
            for relation, beside in (("free_left", columns < o.box[0]), ("free_right", columns > o.box[2])):
                part = free & beside
                if part.any():
                    yield _free(relation, part, rng, b=support.label, c=o.label)
        for left, right in ((a, b) for a in standing for b in standing if a.box[2] < b.box[0]):
            part = free & _region("free_between", frame, left, right)
            if part.any():
                yield _free("free_between", part, rng, b=support.label, c=left.label, d=right.label)


def _region(relation: str, frame, first: SeenObject, second: SeenObject | None = None) -> np.ndarray:
    """(H, W) bool, or what broadcasts to it: where in the picture a relation to what stands on a support holds."""
    rows, columns = np.mgrid[: frame.camera.height, : frame.camera.width]
    if relation == "free_left":
        return columns < first.box[0]
    if relation == "free_right":
        return columns > first.box[2]
    if second is not None:
        within = (rows >= min(first.box[1], second.box[1])) & (rows <= max(first.box[3], second.box[3]))
        return within & (columns > first.box[2]) & (columns < second.box[0])
    beside = (columns >= first.box[0]) & (columns <= first.box[2])
    depth = frame.zbuffer.depth
    if relation == "free_front":
        return beside & (depth > 0) & (depth < first.depth[0] - _DEPTH_CLEARANCE)
    return beside & (depth > first.depth[2] + _DEPTH_CLEARANCE)


def _chains(frame, objects, masks, areas, config, rng, seed, margin) -> list[Referring]:
    """Phrases of two steps and more: to things, and to free space that is told by things."""
    if not config.chains_per_frame:
        return []
    named = named_things(objects, rng, config.chain_steps)
    by_uid = {o.uid: o for o in objects.seen}
    size = (frame.camera.width, frame.camera.height)
    pixels = {uid: ground_truth_pixel(masks[uid], *seed, uid, margin=margin) for uid in by_uid}
    points = {uid: normalised(pixel, size) for uid, pixel in pixels.items()}
    told: list[tuple[Thing | Spot, tuple[int, ...], tuple[int, int], np.ndarray]] = [
        (one.thing, one.uids, pixels[one.uid], masks[one.uid]) for one in named if one.thing.steps > 1
    ]
    told += [
        (spot, uids, innermost_pixel(mask), mask) for spot, uids, mask in _spots(frame, objects, areas, named, config)
    ]
    found = []
    for k in _spread([(one[0].steps, tuple(one[0].relations())) for one in told], config.chains_per_frame, rng):
        thing, uids, pixel, mask = told[k]
        steps = chain_of(thing, uids, by_uid, points)
        relation = thing.told.relation if isinstance(thing, Spot) else thing.told[0].relation
        target = () if isinstance(thing, Spot) else (uids[-1],)
        text = sentence(thing, rng)
        found.append(Referring(relation, text, target, (pixel,), mask, "", thing.steps, steps))
    return found


def _spots(frame, objects, areas, named: list[Named], config):
    """(place, ids of its anchors' nodes, mask): free space on a support, told in steps."""
    by_uid = {o.uid: o for o in objects.seen}
    for support, free in areas:
        told = [one for one in named if one.uid == support.uid]
        plain = [one for one in told if one.thing.steps == 1]
        standing = [one for one in named if relations.on(by_uid[one.uid], support) and support.uid not in one.uids]
        first = sorted((one for one in standing if not one.thing.told), key=lambda one: by_uid[one.uid].box[0])
        options: list[tuple[str, tuple[Named, ...]]] = [("free_on", (b,)) for b in told if b.thing.steps > 1]
        beside = ("free_left", "free_right", "free_front", "free_behind")
        options += [(relation, (b, one)) for b in plain for one in standing for relation in beside]
        options += [("free_between", (b, c, d)) for b in plain for c, d in pairwise(first)]
        for relation, anchors in options:
            spot = Spot(Told(relation, tuple(one.thing for one in anchors)))
            others = [by_uid[one.uid] for one in anchors[1:]]
            mask = free & _region(relation, frame, *others) if others else free
            uids = tuple(one.uid for one in anchors)
            if spot.steps <= config.chain_steps and mask.any() and solve_spot(spot, objects) == uids:
                yield spot, tuple(uid for one in anchors for uid in one.uids), mask


def _spread(kinds: list[tuple[int, tuple[str, ...]]], most: int, rng: np.random.Generator) -> list[int]:
    """Indices of at most ``most``: those first whose number of steps, and whose relations, were chosen least."""
    rest = rng.permutation(len(kinds)).tolist()
    chosen: list[int] = []
    used: dict[int | str, int] = {}
    while rest and len(chosen) < most:
        best = min(rest, key=lambda k: (used.get(kinds[k][0], 0), sum(used.get(name, 0) for name in kinds[k][1])))
        rest.remove(best)
        chosen.append(best)
        for key in (kinds[best][0], *kinds[best][1]):
            used[key] = used.get(key, 0) + 1
    return chosen


def _free(relation: str, mask: np.ndarray, rng, **names: str) -> Referring:
    return Referring(relation, ex.phrase_text(relation, rng, **names), (), (innermost_pixel(mask),), mask)
