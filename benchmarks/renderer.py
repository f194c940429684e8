"""Renderer: colour, depth and instance ids a second on all cores, against Open3D's ray casting of the same meshes.

The baseline casts one ray a pixel and gives hit distance and triangle only: no colour is computed.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tyro

from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.sim_source import CAMERA_640


@dataclass(frozen=True)
class RendererConfig:
    """Speed of rendering."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """Rooms."""
    triangles: int = 200_000
    """About how many each has."""
    frames: int = 60
    """Poses along the walk in each."""


def main() -> int:
    config = tyro.cli(RendererConfig, description=__doc__)
    import open3d

    small = CAMERA_640.resized(224, 168)
    print(f"{os.cpu_count()} cores; about {config.triangles} triangles")
    for seed in config.seeds:
        renderer = Renderer(make_scene(seed, triangles=config.triangles))
        poses = make_path(renderer, config.frames, seed=seed, rate_hz=5.0).poses
        geometry = renderer.scene.geometry
        caster = open3d.t.geometry.RaycastingScene()
        caster.add_triangles(geometry.vertices, geometry.faces.astype(np.uint32))
        pixels = np.stack(np.meshgrid(np.arange(640), np.arange(480)), axis=-1).reshape(-1, 2)
        rays = CAMERA_640.rays(pixels)

        def cast(T, rays=rays, caster=caster):
            directions = (rays @ T[:3, :3].T).astype(np.float32)
            origins = np.broadcast_to(T[:3, 3].astype(np.float32), directions.shape)
            caster.cast_rays(open3d.core.Tensor(np.concatenate([origins, directions], axis=1)))

        ways = {
            "ours 640x480, all three": lambda T, r=renderer: r.render(CAMERA_640, T),
            "ours 640x480, depth and ids": lambda T, r=renderer: r.render(CAMERA_640, T, color=False),
            "ours 224x168, all three": lambda T, r=renderer: r.render(small, T),
            "Open3D 640x480, hits only": cast,
        }
        # A cast of Open3D's uses every core by itself.
        speeds = {name: _speed(way, poses, 1 if way is cast else os.cpu_count() or 1) for name, way in ways.items()}
        baseline = speeds["Open3D 640x480, hits only"]
        print(f"room {seed}: {len(geometry.faces)} triangles")
        for name, speed in speeds.items():
            print(f"  {name:28} {speed:7.1f} frames/s   {speed / baseline:5.2f} of Open3D's")
    return 0


def _speed(way, poses, threads: int) -> float:
    way(poses[0])
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(way, poses))
        return len(poses) / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
