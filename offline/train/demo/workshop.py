"""Rooms that roboref-nano has never seen the like of: other things, materials, light, camera and picture.

Floor plans are those of ``sim.rooms``. Every small thing is replaced by one of an asset group of its own, of about the
same size; large pieces keep their shape, in other materials and mostly under other names; the lamp stands low; and the
camera is a wide, noisy one at knee height.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at

from sim.rooms.design import BLACK, DARK_METAL, METAL, Kit, seeded
from sim.rooms.materials import Material, shade
from sim.rooms.noise import DepthNoise
from sim.rooms.path import CameraPath, make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.scene import SimObject, SimScene
from sim.rooms.shapes import Part
from sim.rooms.sim_source import SimSource

CAMERA = Camera(320, 240, 205.0, 205.0, 159.5, 119.5)
"""76 degrees across, where nano knows 58."""
_LOWERED = 0.75
"""How much lower than a walker's hand the camera is carried [m]."""
_LARGEST = 0.75
"""Things up to this size are replaced [m]."""
_HUNG = ("picture", "clock", "whiteboard", "rug", "curtain", "blinds", "mirror")
_RENAMED = {
    "couch": "settee",
    "bed": "bunk",
    "bookshelf": "parts rack",
    "refrigerator": "chest freezer",
    "cabinet": "locker",
    "file cabinet": "switch box",
    "dresser": "tool chest",
    "wardrobe": "server rack",
    "tv stand": "plinth",
    "floor lamp": "work light",
    "office chair": "rolling stool",
}
_PAINTS = (
    (0.93, 0.80, 0.10), (0.08, 0.09, 0.10), (0.95, 0.42, 0.05), (0.10, 0.72, 0.68), (0.82, 0.10, 0.42),
    (0.45, 0.80, 0.12), (0.30, 0.12, 0.50), (0.88, 0.88, 0.80), (0.15, 0.20, 0.38),
)  # fmt: skip
_NOISE = 4.5
"""Standard deviation of the picture's noise [grey levels]."""


def _cone(kit: Kit, w: float, d: float, h: float) -> None:
    r = min(w, d) / 2
    kit.box((w, d, 0.04 * h), (0, 0, 0), BLACK)
    kit.post(0.8 * r, 0.96 * h, (0, 0, 0.04 * h), _banded(kit, h / 4), 0.12 * r)


def _extinguisher(kit: Kit, w: float, d: float, h: float) -> None:
    r = min(w, d) / 2
    kit.post(0.85 * r, 0.78 * h, (0, 0, 0), _painted(kit))
    kit.post(0.25 * r, 0.16 * h, (0, 0, 0.78 * h), METAL)
    kit.box((1.6 * r, 0.3 * r, 0.06 * h), (0, 0, 0.94 * h), BLACK)


def _hourglass(kit: Kit, w: float, d: float, h: float) -> None:
    r, frame = min(w, d) / 2, _painted(kit)
    kit.turned([(0, 0), (r, 0), (0.1 * r, h / 2), (r, h), (0, h)], (0, 0, 0), _banded(kit, h / 3))
    for z in (0.0, 0.93 * h):
        kit.post(r, 0.07 * h, (0, 0, z), frame)


def _bollard(kit: Kit, w: float, d: float, h: float) -> None:
    r = min(w, d) / 2
    kit.post(0.7 * r, 0.85 * h, (0, 0, 0), _banded(kit, h / 3))
    kit.blob((0.7 * r, 0.7 * r, 0.15 * h), (0, 0, 0.85 * h), DARK_METAL)


def _drum(kit: Kit, w: float, d: float, h: float) -> None:
    r, body = min(w, d) / 2, _painted(kit)
    kit.post(0.93 * r, h, (0, 0, 0), body)
    for z in (0.0, 0.46, 0.93):
        kit.post(r, 0.07 * h, (0, 0, z * h), Material(shade(body.color, 0.5)))


def _helmet(kit: Kit, w: float, d: float, h: float) -> None:
    kit.blob((0.42 * w, 0.42 * d, 0.9 * h), (0, 0, 0.08 * h), _painted(kit))
    kit.box((w, d, 0.08 * h), (0, 0, 0), _painted(kit), 0.02)


def _toolbox(kit: Kit, w: float, d: float, h: float) -> None:
    kit.box((w, d, 0.62 * h), (0, 0, 0), _painted(kit))
    kit.box((0.96 * w, 0.7 * d, 0.12 * h), (0, 0, 0.62 * h), DARK_METAL)
    kit.box((0.12 * w, 0.7 * d, 0.26 * h), (0, 0, 0.74 * h), METAL)


def _anvil(kit: Kit, w: float, d: float, h: float) -> None:
    iron = Material((0.16, 0.17, 0.2), (0.3, 0.3, 0.33), "noise", 0.03)
    kit.box((0.8 * w, 0.6 * d, 0.25 * h), (0, 0, 0), iron)
    kit.box((0.4 * w, 0.3 * d, 0.4 * h), (0, 0, 0.25 * h), iron)
    kit.box((w, 0.5 * d, 0.35 * h), (0, 0, 0.65 * h), iron)


def _spool(kit: Kit, w: float, d: float, h: float) -> None:
    r = min(w, d) / 2
    kit.post(0.6 * r, h, (0, 0, 0), _banded(kit, 0.03))
    for z in (0.0, 0.88 * h):
        kit.post(r, 0.12 * h, (0, 0, z), Material((0.75, 0.6, 0.4), (0.5, 0.35, 0.2), "wood", 0.05))


def _pumpkin(kit: Kit, w: float, d: float, h: float) -> None:
    kit.blob(
        (w / 2, d / 2, 0.44 * h), (0, 0, 0.44 * h), Material((0.92, 0.42, 0.06), (0.7, 0.28, 0.03), "stripes", 0.05)
    )
    kit.post(0.07 * min(w, d), 0.18 * h, (0, 0, 0.82 * h), Material((0.2, 0.35, 0.1)))


def _saw_blade(kit: Kit, w: float, d: float, h: float) -> None:
    r = min(w, d) / 2
    kit.post(r, h, (0, 0, 0), Material((0.75, 0.77, 0.8), (0.5, 0.52, 0.55), "checker", 0.03))
    kit.post(0.3 * r, 0.2 * h, (0, 0, 0.95 * h), _painted(kit))


def _tire(kit: Kit, w: float, d: float, h: float) -> None:
    r = min(w, d) / 2
    kit.turned([(0.5 * r, 0), (r, 0.1 * h), (r, 0.9 * h), (0.5 * r, h), (0.5 * r, 0)], (0, 0, 0), BLACK)
    kit.post(0.5 * r, 0.5 * h, (0, 0, 0.2 * h), _painted(kit))


def _pallet(kit: Kit, w: float, d: float, h: float) -> None:
    boards = Material((0.72, 0.55, 0.33), (0.5, 0.36, 0.2), "wood", 0.05)
    for k in (-1, 0, 1):
        kit.box((w, 0.2 * d, 0.6 * h), (0, 0.38 * k * d, 0), boards)
        kit.box((0.24 * w, d, 0.4 * h), (0.37 * k * w, 0, 0.6 * h), boards)


_Builder = Callable[[Kit, float, float, float], None]
TALL: dict[str, _Builder] = {
    "traffic cone": _cone,
    "fire extinguisher": _extinguisher,
    "hourglass": _hourglass,
    "bollard": _bollard,
}
COMPACT: dict[str, _Builder] = {
    "drum": _drum,
    "helmet": _helmet,
    "toolbox": _toolbox,
    "anvil": _anvil,
    "spool": _spool,
    "pumpkin": _pumpkin,
}
FLAT: dict[str, _Builder] = {"saw blade": _saw_blade, "tire": _tire, "pallet": _pallet}


def workshop_scene(seed: int, *, triangles: int, objects: int | None) -> SimScene:
    """The room of a seed, refurnished: the same on every machine."""
    scene = make_scene(seed, triangles=triangles, objects=objects)
    rng = seeded("workshop", seed)
    bearing = {o.rests_on for o in scene.objects}
    changed = tuple(_other(o, o.object_id in bearing, rng) for o in scene.objects)
    size = scene.room[1]
    light = np.array((rng.uniform(0.15, 0.85) * size[0], rng.uniform(0.15, 0.85) * size[1], rng.uniform(1.3, 1.7)))
    return replace(scene, objects=changed, light=light)


def workshop_source(seed: int, frames: int, rate_hz: float, *, triangles: int, objects: int | None) -> SimSource:
    """A walk through the room of a seed, as the other camera records it."""
    renderer = Renderer(workshop_scene(seed, triangles=triangles, objects=objects))
    path = _lowered(make_path(renderer, frames, seed=seed, rate_hz=rate_hz))
    return _NoisySource(renderer, path, color_camera=CAMERA, depth_noise=DepthNoise(), seed=seed)


class _NoisySource(SimSource):
    """Pictures of a cheap sensor: dim towards the corners, with a cast of colour, noisy."""

    def color(self, i: int) -> np.ndarray:
        clean = super().color(i).astype(np.float32)
        height, width = clean.shape[:2]
        v, u = np.mgrid[0:height, 0:width].astype(np.float32)
        off = np.hypot((u - width / 2) / width, (v - height / 2) / height)
        room = seeded("sensor", self.scene_id)
        cast = room.uniform(0.75, 1.15, 3).astype(np.float32) * np.float32(room.uniform(0.65, 1.1))
        noise = seeded("picture", self.scene_id, int(self.frame_ids[i])).standard_normal(clean.shape, dtype=np.float32)
        found = clean * cast * (1.0 - 0.9 * off**2)[..., None] + np.float32(_NOISE) * noise
        return np.clip(np.round(found), 0, 255).astype(np.uint8)


def _lowered(path: CameraPath) -> CameraPath:
    """The same walk with the camera at knee height, looking at the same places two metres ahead."""
    poses = path.poses.copy()
    for k, T in enumerate(path.poses):
        eye = T[:3, 3] - (0, 0, _LOWERED)
        aim = T[:3, 3] + 2.0 * T[:3, 2]
        poses[k] = look_at(eye.tolist(), aim.tolist())
    return CameraPath(poses, path.stamps_ns)


def _other(o: SimObject, bears: bool, rng: np.random.Generator) -> SimObject:
    """An object of the other world in the place of one of ours."""
    lows, highs = zip(*(part.bounds for part in o.parts), strict=True)
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    size = high - low
    replaced = o.kind and not bears and o.kind not in _HUNG and o.label not in _HUNG and max(size) <= _LARGEST
    if not replaced:
        label = _RENAMED.get(o.label, o.label)
        return replace(o, label=label, parts=tuple(_repainted(part, bool(o.kind), rng) for part in o.parts))
    group = TALL if size[2] > 1.2 * max(size[:2]) else FLAT if size[2] < 0.35 * max(size[:2]) else COMPACT
    name = sorted(group)[int(rng.integers(len(group)))]
    kit = Kit(rng)
    group[name](kit, *(float(side) for side in size))
    middle = np.array([*(low + high)[:2] / 2, low[2]])
    parts = tuple(replace(part, T_object_part=_shifted(part.T_object_part, middle)) for part in kit.parts)
    return replace(o, label=name, parts=parts)


def _shifted(T: np.ndarray, by: np.ndarray) -> np.ndarray:
    T = T.copy()
    T[:3, 3] += by
    return T


def _repainted(part: Part, is_furniture: bool, rng: np.random.Generator) -> Part:
    first, second = rng.permutation(len(_PAINTS))[:2]
    color, other = _PAINTS[first], _PAINTS[second]
    if not is_furniture:
        # Floor and walls stay in the background, but are of another world too.
        color, other = shade(color, 0.55), shade(color, 0.42)
    patterns = ("plain", "noise", "tiles", "stripes", "checker") if is_furniture else ("noise", "checker", "stripes")
    pattern = patterns[int(rng.integers(len(patterns)))]
    scale = float(rng.uniform(0.05, 0.15)) if is_furniture else float(rng.uniform(0.25, 0.6))
    if part.material.glow:
        return replace(part, material=replace(part.material, color=color, second=other))
    return replace(part, material=Material(color, other, pattern, scale))


def _painted(kit: Kit) -> Material:
    return Material(kit.choose(_PAINTS))


def _banded(kit: Kit, scale: float) -> Material:
    return Material(kit.choose(_PAINTS), kit.choose(_PAINTS), "stripes", scale)
