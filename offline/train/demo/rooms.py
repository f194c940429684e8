"""Furnished rooms in ScanNet's formats, and the data engine over them. Light, as each of its workers imports it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from roboref_core.geometry.camera import Camera
from roboref_core.progress import Progress
from roboref_core.prompting.prompt import Form

from offline.data_engine.build_command import Build
from offline.data_engine.config import SceneConfig, TaskConfig
from offline.data_engine.tasks.referring import ReferringConfig
from offline.data_engine.tasks.samples import SampleConfig
from offline.files import read_json, write_bytes, write_json
from offline.train.demo.config import Look, RoomsConfig
from offline.train.demo.workshop import workshop_source
from sim.rooms.noise import DepthNoise
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.scannet_writer import write_scene
from sim.rooms.sim_source import CAMERA_640, SimSource

# Few frames that differ much: the data engine leaves out those that show nothing new.
_RATE_HZ = 6.0
_OBJECTS, _TRIANGLES = 22, 40_000
_SCENE = SceneConfig(referring=ReferringConfig(chains_per_frame=0))
_VARIANTS = SampleConfig(tasks=("t1", "t2a", "t2b", "referring"))
_SAMPLES = replace(_VARIANTS, forms=(Form.MULTI,), with_grid=False)
# Of the views that the base model learned from, which sees no more than 160 x 160 pixels of a picture.
_CAMERA = Camera(320, 240, CAMERA_640.fx / 2, CAMERA_640.fy / 2, 159.5, 119.5)


def build(folder: Path, config: RoomsConfig, workers: int) -> Path:
    """Rooms through the data engine; returns the folder of its task files. What is there is not made again.

    Raises ValueError if the folder holds the data of another configuration, or a room could not be built.
    """
    _same(folder / "rooms.json", config)
    names = make_rooms(folder / "scans", range(config.seed, config.free_seed), config.frames, workers, config.look)
    # Those set aside are like the ones to learn from until questions are chosen, see ``aside``.
    lists = {"train": names[: -config.held_out], "validation": names[-config.held_out :]}
    for split, members in lists.items():
        write_bytes(folder / f"{split}.txt", "".join(f"{name}\n" for name in members).encode())
    failed = Build(
        scans=folder / "scans",
        out=folder / "data",
        workers=workers,
        scene=replace(_SCENE, depth_pictures=config.variants),
        task=TaskConfig(samples=_VARIANTS if config.variants else _SAMPLES),
        train_list=folder / "train.txt",
        validation_list=folder / "validation.txt",
    )()
    if failed:
        raise ValueError(f"{folder / 'data'}: some rooms could not be built, see {folder / 'data' / 'failed'}")
    return folder / "data" / "tasks"


def aside(config: RoomsConfig) -> frozenset[str]:
    """The ids of the rooms that are not trained on."""
    first = config.seed + config.rooms
    return frozenset(_name(seed) for seed in range(first, first + config.aside))


def make_rooms(folder: Path, seeds: Sequence[int], frames: int, workers: int, look: Look = "home") -> list[str]:
    """Writes the scans that are missing; returns the ids of all, in the order of the seeds."""
    names = {seed: _name(seed) for seed in seeds}
    missing = [seed for seed, name in names.items() if not (folder / name / f"{name}.sens").exists()]
    # Not forked: threads of torch may hold locks that would never open in a child.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) as executor:
        jobs = executor.map(partial(_make_room, folder, frames, look), missing)
        for _ in Progress(jobs, total=len(missing), desc="rooms", unit="room", disable=not missing):
            pass
    return list(names.values())


def _name(seed: int) -> str:
    return f"scene{seed:04d}_00"


def _make_room(folder: Path, frames: int, look: Look, seed: int) -> None:
    if look == "workshop":
        source = workshop_source(seed, frames, _RATE_HZ, triangles=_TRIANGLES, objects=_OBJECTS)
    else:
        renderer = Renderer(make_scene(seed, triangles=_TRIANGLES, objects=_OBJECTS))
        path = make_path(renderer, frames, seed=seed, rate_hz=_RATE_HZ)
        source = SimSource(renderer, path, color_camera=_CAMERA, depth_noise=DepthNoise(), seed=seed)
    write_scene(source, folder)


def _same(file: Path, config: RoomsConfig) -> None:
    # Which of the questions are asked is decided later, from the same rooms.
    made = asdict(replace(config, questions=0))
    if not file.exists():
        write_json(file, made)
    elif (found := read_json(file)) != made:
        changed = ", ".join(f"{key}: {found.get(key)} -> {made[key]}" for key in made if found.get(key) != made[key])
        raise ValueError(f"{file.parent} holds other rooms ({changed}): use another output folder")
