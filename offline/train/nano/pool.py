"""Rendered views of many small worlds, from which training questions are drawn.

A pool is a folder of chunks. A chunk is a pure function of (seed, chunk number): some furnished rooms, each seen
from many places, half of the views after a few things were moved. Pictures lie in ``.npy`` files that are read
through memory maps; facts and phrases in ``facts.json``.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from roboref_core.atomic import write_text
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import look_at, pose, transform
from roboref_core.progress import Progress
from roboref_core.views.depth_picture import metric_to_picture

from offline.data_engine.tasks.simulated import SceneFacts, absent_phrases, free_space, phrases, seen_objects
from sim.rooms.design import about, seeded
from sim.rooms.path import free_floor
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.scene import SimScene
from sim.rooms.sim_source import CAMERA_640
from sim.rooms.truth import object_box

SIDE = 160
"""Pixels along a side of a tile: what the model sees of a picture."""
DRAWN_SIZE = (640, 480)
"""Width and height at which marks and grids are drawn, as by the data engine and the robot: that of ``CAMERA_640``."""
# That camera at half its size, and the same picture squeezed into a square.
VIEW_CAMERA = Camera(320, 240, CAMERA_640.fx / 2, CAMERA_640.fy / 2, 159.5, 119.5)
_SQUARE_CAMERA = Camera(
    SIDE, SIDE, CAMERA_640.fx * SIDE / 640, CAMERA_640.fy * SIDE / 480, (SIDE - 1) / 2, (SIDE - 1) / 2
)
_TRIANGLES = 16_000
_MOVED = 3
_LARGEST_MOVED = 0.9
_REMOVED = 4


@dataclass(frozen=True)
class PoolConfig:
    """What a pool holds.

    Attributes:
        seed: first room's seed; rooms of different pools must not overlap.
        rooms: per chunk.
        views: per room.
        zoom: least and largest focal length of a view, in units of ``CAMERA_640``'s; below 1 is wide angle.
        heights: least and largest height of the camera above the floor [m].
    """

    seed: int = 1_000_000
    rooms: int = 24
    views: int = 48
    zoom: tuple[float, float] = (1.0, 1.0)
    heights: tuple[float, float] = (1.3, 1.7)

    def __post_init__(self):
        for name in ("zoom", "heights"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: expected 0 < least <= largest, found {low} and {high}")


@dataclass(frozen=True, eq=False)
class Chunk:
    """Views of some rooms, N in all.

    Attributes:
        color: (N, 240, 320, 3) uint8.
        tile: (N, 160, 160, 3) uint8, the same as the model sees it.
        depth: (N, 160, 160) uint8 depth picture.
        ids: (N, 160, 160) uint8 object ids.
        removed: (N, 240, 320, 3) uint8, the view with one object taken away; black where there is none.
        views: facts of each view: room, variant, seen (uid -> area, fraction, clear), phrases, phrases about what is
            absent, free-space phrases with their (u, v) in ``color``, uid that ``removed`` lacks.
        rooms: facts of each room: labels and colours by uid.
    """

    color: np.ndarray
    tile: np.ndarray
    depth: np.ndarray
    ids: np.ndarray
    removed: np.ndarray
    views: Sequence[dict]
    rooms: Sequence[dict]


_ARRAYS = ("color", "tile", "depth", "ids", "removed")


def load_chunk(folder: Path) -> Chunk:
    """A finished chunk; pictures stay on disk until they are looked at."""
    facts = json.loads((folder / "facts.json").read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    return Chunk(**arrays, views=facts["views"], rooms=facts["rooms"])


def chunk_folder(root: Path, number: int) -> Path:
    return root / f"chunk_{number:04d}"


def make_pool(root: Path, numbers: Sequence[int], config: PoolConfig, workers: int = 1) -> None:
    """Makes the chunks that are missing."""
    missing = [number for number in numbers if not (chunk_folder(root, number) / "facts.json").exists()]
    # Not forked: threads of torch may hold locks that would never open in a child.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) as executor:
        jobs = executor.map(partial(make_chunk, root, config=config), missing)
        for _ in Progress(jobs, total=len(missing), desc="rooms", unit="chunk", disable=not missing):
            pass


def make_chunk(root: Path, number: int, config: PoolConfig) -> Path:
    """Renders one chunk. ``facts.json`` is written last: a chunk without it is not finished."""
    folder = chunk_folder(root, number)
    folder.mkdir(parents=True, exist_ok=True)
    count = config.rooms * config.views
    view, tile = (VIEW_CAMERA.height, VIEW_CAMERA.width), (SIDE, SIDE)
    shapes = {"color": (*view, 3), "tile": (*tile, 3), "depth": tile, "ids": tile, "removed": (*view, 3)}
    arrays = {name: np.zeros((count, *shape), dtype=np.uint8) for name, shape in shapes.items()}
    views: list[dict] = []
    rooms: list[dict] = []
    for k in range(config.rooms):
        seed = config.seed + number * config.rooms + k
        scene = make_scene(seed, triangles=_TRIANGLES)
        rng = seeded("nano", seed)
        colors = {o.object_id: o.color for o in scene.furniture}
        rooms.append({"seed": seed, "labels": {o.object_id: o.label for o in scene.furniture}, "colors": colors})
        variants = (scene, rearranged(scene, rng))
        for variant, each in enumerate(variants):
            renderer = Renderer(each)
            facts = SceneFacts.of(renderer)
            poses = list(viewpoints(each, config.views // 2, rng, config.heights))
            zooms = np.full(len(poses), config.zoom[0])
            if config.zoom[0] < config.zoom[1]:
                zooms = rng.uniform(*config.zoom, len(poses))
            first = len(views)
            for T, zoom in zip(poses, zooms, strict=True):
                shown = _view(renderer, facts, T, float(zoom), rng, arrays, len(views))
                views.append({"room": k, "variant": variant, **shown})
            _take_away(each, poses, zooms, views[first:], arrays["removed"][first:], rng)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    # Last: its presence says that the chunk is whole.
    write_text(folder / "facts.json", json.dumps({"config": asdict(config), "views": views, "rooms": rooms}))
    return folder


def zoomed(camera: Camera, zoom: float) -> Camera:
    """The same picture size with a longer (or, below 1, a shorter) focal length."""
    return camera if zoom == 1.0 else replace(camera, fx=camera.fx * zoom, fy=camera.fy * zoom)


def viewpoints(
    scene: SimScene, count: int, rng: np.random.Generator, heights: tuple[float, float] = (1.3, 1.7)
) -> Iterator[np.ndarray]:
    """Poses (4x4) of somebody who stands on free floor and looks at one thing after another.

    Args:
        heights: of the eye above the floor, least and largest [m].
    """
    free = free_floor(scene, 0.15)
    cells = np.argwhere(free if free.any() else free_floor(scene, 0.0))
    targets = [object_middle(scene, o.object_id) for o in scene.furniture]
    for _ in range(count):
        x, y = (cells[rng.integers(len(cells))] + 0.5) * 0.05
        eye = transform(scene.T_world_room, np.array([x, y, rng.uniform(*heights)]))
        away = targets[rng.integers(len(targets))] - eye
        yaw = np.arctan2(away[1], away[0]) + rng.normal(0, np.radians(10))
        pitch = np.arctan2(away[2], np.hypot(away[0], away[1])) + rng.normal(0, np.radians(7))
        pitch = np.clip(pitch, np.radians(-60), np.radians(30))
        ahead = np.array((np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)))
        yield look_at(eye, eye + ahead) @ pose(about("z", float(rng.normal(0, 1.5))), (0, 0, 0))


def rearranged(scene: SimScene, rng: np.random.Generator) -> SimScene:
    """The room after somebody put a few things elsewhere on the floor, as far as they find room."""
    small = [o for o in scene.furniture if not (scene.carried_by(o.object_id) - {o.object_id})]
    for k in rng.permutation(len(small))[:_MOVED]:
        o = small[k]
        _, size = object_box(Renderer(scene, shadows=False), o.object_id)
        if o.kind in ("picture", "clock", "whiteboard", "rug") or max(size) > _LARGEST_MOVED:
            continue
        reach = float(np.hypot(size[0], size[1]) / 2) + 0.05
        cells = np.argwhere(free_floor(scene, reach))
        if not len(cells):
            continue
        x, y = (cells[rng.integers(len(cells))] + 0.5) * 0.05
        T = scene.T_world_room @ pose(about("z", float(rng.uniform(-180, 180))), (x, y, 0.0))
        scene = scene.with_moved(o.object_id, T)
    return scene


def object_middle(scene: SimScene, uid: int) -> np.ndarray:
    """(3,) middle of an object's bounding box, world [m]."""
    o = scene.object(uid)
    corners = np.concatenate([part.bounds for part in o.parts])
    return transform(o.T_world_object, (corners.min(axis=0) + corners.max(axis=0)) / 2)


def to_drawn(picture: np.ndarray) -> np.ndarray:
    """(240, 320, 3) uint8 at the size at which the robot has it."""
    return cv2.resize(picture, DRAWN_SIZE, interpolation=cv2.INTER_LINEAR)


def to_tile(picture: np.ndarray) -> np.ndarray:
    """(H, W[, 3]) uint8 as one tile, resized as the native model does it."""
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE)))


def _view(renderer, facts, T, zoom: float, rng, arrays, index) -> dict:
    camera = zoomed(VIEW_CAMERA, zoom)
    rendering = renderer.render(camera, T)
    seen, frame = seen_objects(renderer, facts, camera, T, rendering)
    square = renderer.render(zoomed(_SQUARE_CAMERA, zoom), T, color=False)
    arrays["color"][index] = rendering.color
    arrays["tile"][index] = to_tile(to_drawn(rendering.color))
    arrays["depth"][index] = to_tile(metric_to_picture(rendering.depth)[..., 0])
    arrays["ids"][index] = square.ids
    return {
        "seen": {s.uid: [round(s.area, 5), round(s.fraction, 3), s.clear] for s in seen},
        "phrases": [[p.relation, p.text, list(p.uids)] for p in phrases(frame, facts, rng)],
        "absent": [[p.relation, p.text] for p in absent_phrases(frame, facts, rng)],
        "free": [[p.relation, p.text, *pixel] for p, pixel in free_space(frame, camera, T, rendering, rng)],
    }


def _take_away(
    scene: SimScene, poses, zooms, views: list[dict], pictures: np.ndarray, rng: np.random.Generator
) -> None:
    """Renders views without one of the objects they show; few objects, since each makes another world to mesh."""
    for view in views:
        view["removed"] = 0
    loose = [o.object_id for o in scene.furniture if scene.carried_by(o.object_id) == {o.object_id}]
    for uid in rng.permutation(loose)[:_REMOVED]:
        renderer = Renderer(scene.without(int(uid)))
        for k, view in enumerate(views):
            if not view["removed"] and view["seen"].get(int(uid), (0, 0, False))[2]:
                view["removed"] = int(uid)
                pictures[k] = renderer.render(zoomed(VIEW_CAMERA, float(zooms[k])), poses[k]).color
