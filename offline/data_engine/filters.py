"""What is not worth training on, each with its reason: objects, frames, and views of an object.

A rejected item is counted once, under the first reason that applies, so the counts add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from roboref_core.views.visibility import Visibility

from offline.data_engine.seeing.alignment import Alignment
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import STATES, ObjectView
from offline.data_engine.sources.labels import LabelTable, normalise_label, structural_family, wanted_categories

# Fixtures: not the building, but nobody carries them either. By noun, so that every raw spelling is met.
_IMMOBILE_NOUNS = {
    "toilet", "urinal", "bidet", "bathtub", "tub", "shower", "sink", "washbasin", "counter", "countertop", "radiator",
    "fireplace", "mantel", "stove", "furnace", "elevator", "blinds", "blind", "curtain", "faucet", "pipe", "vent",
    "duct", "outlet", "sprinkler", "hydrant", "whiteboard", "blackboard", "locker", "wardrobe", "closet", "cabinet",
    "bookshelf", "bookshelve", "bookcase", "shelf", "shelve", "dishwasher", "refrigerator", "fridge", "bed", "stall",
    "hood", "detector", "thermostat", "valve", "rod", "ledge", "tap", "stovetop", "boiler", "chandelier", "mailboxe",
}  # fmt: skip
# Where the noun alone could be carried ("coffee machine", "hair dryer", "cutting board").
_IMMOBILE_LABELS = {
    "washing machine", "laundry machine", "vending machine", "clothes dryer", "bulletin board", "light switch",
    "fire alarm", "kitchen island", "hand dryer", "projector screen", "ceiling light", "ceiling lamp", "ceiling fan",
    "wall lamp", "handicap bar", "grab bar", "breakfast bar", "bar", "shower head", "electric panel", "fuse box",
    "water heater", "elevator button", "toilet flush button", "oven", "fire hose",
}  # fmt: skip
# The same families as the label table's NYU40 classes.
_IMMOBILE_NYU40 = {3, 4, 10, 12, 13, 15, 16, 24, 28, 30, 33, 34, 36}
_LIVING = {"person", "people", "dog", "cat"}
_UNNAMED = {"object", "objects", "remove", "unknown", "unlabeled", "unannotated", "misc", ""}

_VISIBLE = STATES.index(Visibility.VISIBLE)
_OUT = STATES.index(Visibility.OUT_OF_FRUSTUM)
_CONFLICT = STATES.index(Visibility.CONFLICT)


@dataclass(frozen=True)
class FilterConfig:
    """Limits of what is kept.

    Attributes:
        labels: keep only these labels: raw spellings, categories (both with all spellings of the category), names of
            ScanNet200 or NYU40; empty keeps all.
        keep_immobile: keep fixtures and heavy furniture that nobody moves.
        min_extent: smallest longest side of an object's bounding box [m].
        max_extent: largest longest side of an object's bounding box [m].
        min_fraction: least visible share of the object's silhouette.
        min_area: fewest visible pixels, as a share of the picture.
        max_area: most visible pixels, as a share of the picture.
        max_cut: largest share of the silhouette that the picture's border may cut off.
        max_distance: largest distance from camera to object [m].
        max_holes: largest share of the object's pixels without depth.
        max_contradicted: largest share of the object's measured pixels where the sensor looks through the mesh.
        max_residual: largest mean |sensor - mesh| on the object, where they agree [m].
        min_inliers: a frame's pose is bad below this share of pixels where sensor and mesh agree.
        max_bias: it is bad above this median of sensor - mesh [m].
        max_spread: it is bad above this median absolute deviation of sensor - mesh [m].
        min_sharpness: least sharpness of a frame, relative to the median of its scene.
        min_agreement: least agreement of a frame's colours with those of its neighbours, in [-1, 1].
        min_scene_agreement: a scene whose median is below has pictures of other moments, or wrong intrinsics; all of
            its frames are left out.
    """

    labels: tuple[str, ...] = ()
    keep_immobile: bool = False
    min_extent: float = 0.08
    max_extent: float = 2.5
    min_fraction: float = 0.3
    min_area: float = 0.0015
    max_area: float = 0.5
    max_cut: float = 0.4
    max_distance: float = 5.0
    max_holes: float = 0.5
    max_contradicted: float = 0.3
    max_residual: float = 0.04
    min_inliers: float = 0.6
    max_bias: float = 0.05
    max_spread: float = 0.08
    min_sharpness: float = 0.6
    min_agreement: float = 0.3
    min_scene_agreement: float = 0.45


def immobile_family(label: str, table: LabelTable | None = None) -> str | None:
    """The noun under which a label counts as a fixture, None for what can be moved.

    The label's last noun names the thing ("shower curtain" is a curtain); the table adds its NYU40 class.
    """
    words = normalise_label(label).replace("-", " ").split()
    for name, known in ((" ".join(words), _IMMOBILE_LABELS), (words[-1] if words else "", _IMMOBILE_NOUNS)):
        for spelling in (name, _singular(name)):
            if spelling in known:
                return spelling
    if table is not None and table.nyu40_of.get(normalise_label(label)) in _IMMOBILE_NYU40:
        return table.category_of.get(normalise_label(label), label)
    return None


def category(label: str, table: LabelTable | None = None) -> str:
    """One name for all raw spellings of a kind of thing; the normalised label where the table has none."""
    raw = normalise_label(label)
    return table.category_of.get(raw, raw) if table is not None else raw


def is_named(label: str) -> bool:
    """Does the label say what the thing is? ("object" does not.)"""
    return normalise_label(label) not in _UNNAMED


def reject_object(
    object_id: int, label: str, surface: Surface, config: FilterConfig, table: LabelTable | None = None
) -> str | None:
    """Why an object is left out, or None."""
    if structural_family(label, table) is not None:
        return "structural"
    if normalise_label(label) in _LIVING:
        return "living"
    if not config.keep_immobile and immobile_family(label, table) is not None:
        return "immobile"
    if config.labels and category(label, table) not in wanted_categories(config.labels, table):
        return "label_not_wanted"
    try:
        k = surface.index(object_id)
    except KeyError:
        return "no_surface"
    if surface.face_starts[k] == surface.face_starts[k + 1]:
        return "no_surface"
    extent = float((surface.upper[k] - surface.lower[k]).max())
    if extent < config.min_extent:
        return "too_small"
    return "too_large" if extent > config.max_extent else None


def reject_frame(alignment: Alignment, config: FilterConfig) -> str | None:
    """Why a frame's pose is not to be trusted, or None."""
    if not alignment.judged:
        return "no_depth"
    bad = (
        alignment.inliers < config.min_inliers
        or abs(alignment.median) > config.max_bias
        or alignment.mad > config.max_spread
    )
    return "bad_pose" if bad else None


def mismatched_colors(agreement: Mapping[int, float], config: FilterConfig) -> set[int] | None:
    """Frames whose colours do not belong to their geometry; None: those of the whole scene do not.

    Args:
        agreement: frame position -> see ``photometric.agreements``.
    """
    if len(agreement) >= 3 and float(np.median(list(agreement.values()))) < config.min_scene_agreement:
        return None
    return {i for i, value in agreement.items() if value < config.min_agreement}


def reject_view(view: ObjectView, pixels: int, config: FilterConfig) -> str | None:
    """Why one frame's view of one object is left out, or None.

    Args:
        pixels: of the picture that the view was judged in.
    """
    if view.state != Visibility.VISIBLE:
        return view.state.value
    counts = view.counts
    if view.distance > config.max_distance:
        return "too_far"
    if counts[_OUT] > config.max_cut * counts.sum():
        return "cut_by_border"
    if view.area < config.min_area * pixels:
        return "too_few_pixels"
    if view.area > config.max_area * pixels:
        return "too_many_pixels"
    if view.fraction < config.min_fraction:
        return "mostly_occluded"
    if view.hole_share > config.max_holes:
        return "sensor_holes"
    if counts[_CONFLICT] > config.max_contradicted * (counts[_VISIBLE] + counts[_CONFLICT]):
        return "contradicted"
    if np.isfinite(view.residual) and view.residual > config.max_residual:
        return "sensor_noise"
    return None


def _singular(noun: str) -> str:
    return noun[:-1] if noun.endswith("s") else noun
