"""Data engine: each step of turning a scan into views, against the plain way of doing it.

The scan is simulated, in ScanNet's files: 1296x968 JPEG colour, 640x480 zlib depth with a sensor's noise, about 80,000
vertices. Everything runs on one thread and is timed in processor time, so that other load does not count. The plain
way reads every byte of every frame, decodes colour and depth, and tests all vertices with `0 < z < D` in NumPy, as
public generators of such data do; where objects must be told apart exactly, it casts a ray per pixel.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from offline.data_engine.building.scan import scan_scene
from offline.data_engine.building.scene_build import SceneBuilder
from offline.data_engine.config import SceneConfig
from offline.data_engine.filters import FilterConfig, reject_object
from offline.data_engine.seeing.frustum import candidates
from offline.data_engine.seeing.overlap import overlap_matrix
from offline.data_engine.seeing.point_counter import PointCounter
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import FrameVisibility
from offline.data_engine.seeing.zbuffer import Projection
from offline.data_engine.sources import Instances, Mesh, Scene, open_scene

TARGET_FRAMES = 500_000
SAMPLED = 12
"""Frames, spread over the scan, that the steps of one frame are timed on."""


@dataclass(frozen=True)
class DataEngineConfig:
    """Speed of the data engine on one core."""

    scan: Path | None = None
    """A ScanNet scan to measure on instead of a simulated one."""
    frames: int = 120
    """Frames of the simulated scan."""
    triangles: int = 160_000
    """About how many it has."""
    seed: int = 1
    """Room."""


def plain_index(path: Path) -> list[tuple[bytes, bytes]]:
    """Read a .sens file field by field, all blobs with it."""
    frames = []
    with open(path, "rb") as file:
        length = struct.unpack("<IQ", file.read(12))[1]
        file.seek(12 + length + 256 + 8 + 16 + 4)
        for _ in range(struct.unpack("<Q", file.read(8))[0]):
            file.read(64 + 16)
            color, depth = struct.unpack("<QQ", file.read(16))
            frames.append((file.read(color), file.read(depth)))
    return frames


def plain_visibility(vertices: np.ndarray, ids: np.ndarray, depth: np.ndarray, T: np.ndarray, K) -> dict[int, int]:
    """Visible vertices per object: 0 < z < D(u, v), in NumPy."""
    homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1)
    points = homogeneous @ np.linalg.inv(T).T
    z = points[:, 2]
    with np.errstate(all="ignore"):
        pixels = points[:, :3] @ K.matrix.T
        u, v = np.rint(pixels[:, 0] / z), np.rint(pixels[:, 1] / z)
    inside = (z > 0) & (u >= 0) & (u < K.width) & (v >= 0) & (v < K.height)
    visible = np.zeros(len(z), dtype=bool)
    visible[inside] = z[inside] < depth[v[inside].astype(int), u[inside].astype(int)]
    return {int(k): int(np.count_nonzero(visible & (ids == k))) for k in np.unique(ids)}


def annotated(scene: Scene) -> tuple[Mesh, Instances]:
    """Mesh and instances of a scan, which these measurements need."""
    mesh, instances = scene.mesh(), scene.instances()
    if mesh is None or instances is None:
        raise SystemExit(f"{scene.scene_id}: a scan with mesh and instances is needed")
    return mesh, instances


def plain_scene(scene: Scene, path: Path) -> None:
    """The plain pipeline over a whole scan."""
    mesh, instances = annotated(scene)
    vertices, ids = mesh.vertices.astype(np.float64), instances.vertex_ids
    camera = scene.depth_camera
    for i, (color, depth) in enumerate(plain_index(path)):
        cv2.imdecode(np.frombuffer(color, np.uint8), cv2.IMREAD_COLOR)
        raw = np.frombuffer(zlib.decompress(depth), np.uint16).reshape(camera.height, camera.width)
        if np.isfinite(scene.poses[i]).all():
            plain_visibility(vertices, ids, raw / 1000.0, scene.poses[i], camera)


def measure(*actions: Callable, repeats: int) -> tuple[float, ...]:
    """Median processor time of each action [ms], after one call each that is not counted.

    They take turns, so that what else the machine does meanwhile slows all of them.
    """
    for action in actions:
        action()
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, taken in zip(actions, times, strict=True):
            started = time.process_time()
            action()
            taken.append(time.process_time() - started)
    return tuple(1000 * float(np.median(taken)) for taken in times)


def raycast(surface: Surface, scene: Scene, T: np.ndarray) -> Callable:
    import open3d

    caster = open3d.t.geometry.RaycastingScene(nthreads=1)
    caster.add_triangles(open3d.core.Tensor(surface.vertices), open3d.core.Tensor(surface.faces.astype(np.uint32)))
    camera = scene.depth_camera
    pixels = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).reshape(-1, 2)
    directions = (camera.rays(pixels) @ T[:3, :3].T).astype(np.float32)
    origins = np.broadcast_to(T[:3, 3].astype(np.float32), directions.shape)
    rays = open3d.core.Tensor(np.concatenate([origins, directions], axis=1))
    return lambda: caster.cast_rays(rays)


def row(name: str, ours: float, baseline: float | None = None, what: str = "") -> None:
    ratio = f"{baseline / ours:7.1f} x   {what}: {baseline:.3g} ms" if baseline else ""
    print(f"  {name:48} {ours:9.3f} ms {ratio}".rstrip(), flush=True)


def run(config: DataEngineConfig, folder: Path) -> None:
    path = config.scan or simulate(config, folder)
    scene = open_scene(path)
    sens = path / f"{scene.scene_id}.sens" if path.is_dir() else path
    surface = Surface.build(*annotated(scene))
    frames = len(scene)
    size = sens.stat().st_size / frames
    print(f"  {frames} frames of {size / 1e6:.2f} MB, {len(surface.vertices)} vertices, {len(surface.faces)} faces")
    tracked = np.flatnonzero(np.isfinite(scene.poses).all(axis=(1, 2)))
    some = tracked[:: max(1, len(tracked) // SAMPLED)].tolist()

    reading(path, sens, some)
    counter = PointCounter(surface, scene.depth_camera)
    points(scene, surface, counter, some)
    casting = exact(scene, surface, some[len(some) // 2])
    overlap(scene, counter)

    def every_frame() -> None:
        again = open_scene(path)
        for k in tracked.tolist():
            raw, unit = again.depth_raw(k)
            counter.count(raw, again.poses[k], None, unit)

    visibility, scanned, plain = measure(
        every_frame, lambda: scan_scene(scene), lambda: plain_scene(scene, sens), repeats=3
    )
    visibility, scanned, plain = visibility / frames, scanned / frames, plain / frames
    row("visibility in every frame of a scan, per frame", visibility, plain, "decode everything, NumPy")
    row("scan with exact verdicts, per frame", scanned, plain + casting, "the same and ray casting")
    found = scan_scene(scene)
    print(f"    (drawn, and colour decoded, in {len(found.alignment)} of {frames} frames: what sees something new)")
    started = time.process_time()
    SceneBuilder(scene, SceneConfig(), "bench").build(folder / "built", "train")
    built = 1000 * (time.process_time() - started) / frames
    row("views, inpainting, phrases and files, per frame", built)
    extrapolate(visibility, scanned, built, size)


def reading(path: Path, sens: Path, some: list[int]) -> None:
    """Index and depth of a .sens file."""

    def index() -> None:
        for sidecar in sens.parent.glob(f"{sens.name}*.npz"):
            sidecar.unlink()
        open_scene(path)

    scene, blobs = open_scene(path), plain_index(sens)
    walked, read, again = measure(index, lambda: plain_index(sens), lambda: open_scene(path), repeats=3)
    row("index a .sens, per frame", walked / len(scene), read / len(scene), "reading it through")
    row("  again, with its sidecar", again / len(scene))

    def inflate() -> None:
        for k in some:
            zlib.decompress(blobs[k][1])

    def depth() -> None:
        for k in some:
            scene.depth_raw(k)

    ours, plain = measure(depth, inflate, repeats=3)
    row("depth: read and inflate", ours / len(some), plain / len(some), "zlib, inflate only")


def points(scene: Scene, surface: Surface, counter: PointCounter, some: list[int]) -> None:
    """The point counter, for all objects and for those that may be asked for, on depth as it was read and the plain way
    on metres ready made.
    """
    mesh, instances = annotated(scene)
    vertices, ids = mesh.vertices.astype(np.float64), instances.vertex_ids
    labels, filters = instances.labels, FilterConfig()
    reasons = [reject_object(k, labels.get(k, "wall"), surface, filters) for k in surface.object_ids.tolist()]
    wanted = candidates(scene.poses[some], scene.depth_camera, surface.lower, surface.upper)
    wanted &= np.array([reason is None for reason in reasons])
    given = [(*scene.depth_raw(k), scene.depth(k), scene.poses[k], wanted[n]) for n, k in enumerate(some)]
    everything, candidate, plain = measure(
        lambda: [counter.count(raw, T, None, unit) for raw, unit, _, T, _ in given],
        lambda: [counter.count(raw, T, which, unit) for raw, unit, _, T, which in given],
        lambda: [plain_visibility(vertices, ids, depth, T, scene.depth_camera) for _, _, depth, T, _ in given],
        repeats=5,
    )
    n, baseline = len(given), "NumPy, 0 < z < D"
    row("visibility of all objects, five states", everything / n, plain / n, baseline)
    row(f"  of those that can be asked for ({wanted.sum() / n:.1f} a frame)", candidate / n, plain / n, baseline)


def exact(scene: Scene, surface: Surface, i: int) -> float:
    """The z-buffer and the verdicts from it, in one frame; returns the time of ray casting [ms]."""
    T, camera = scene.poses[i], scene.depth_camera
    drawn, casting = measure(lambda: Projection(surface, camera, T).render(), raycast(surface, scene, T), repeats=9)
    row("exact z-buffer, 640x480", drawn, casting, "Open3D ray casting")
    frame = FrameVisibility(surface, camera, T, scene.depth(i), camera)
    objects = [int(k) for k in surface.object_ids if k]
    (verdicts,) = measure(lambda: [frame.view(k) for k in objects], repeats=3)
    row("exact verdict per object", verdicts / len(objects))
    return casting


def overlap(scene: Scene, counter: PointCounter) -> None:
    """What frames see in common, for all pairs of 500."""
    frames = len(scene)
    bits = np.stack([counter.count(scene.depth(k % frames), scene.poses[k % frames])[1] for k in range(500)])
    flags = np.unpackbits(bits[:40].view(np.uint8), axis=1).astype(bool)

    def dense() -> None:
        for a in range(40):
            for b in range(a):
                np.count_nonzero(flags[a] & flags[b]), np.count_nonzero(flags[a] | flags[b])

    ours, plain = measure(lambda: overlap_matrix(bits), dense, repeats=3)
    row("overlap of all pairs of 500 frames", ours, plain * (500 * 499) / (40 * 39), "NumPy, boolean vectors")


def extrapolate(visibility: float, scanned: float, built: float, size: float) -> None:
    """Say what ``TARGET_FRAMES`` frames take, from times per frame [ms] and bytes per frame, and what binds."""
    print(f"  {TARGET_FRAMES} frames of the same kind:")
    for name, cost in (("visibility", visibility), ("scan", scanned), ("everything", built)):
        hours = TARGET_FRAMES * cost / 3.6e6
        print(f"    {name:12} {hours:8.2f} h on 1 core {60 * hours / 64:8.1f} min on 64")
    minutes = TARGET_FRAMES * size / 6e10
    binds = "reading" if minutes > TARGET_FRAMES * built / 6e4 / 64 else "computing"
    print(f"    reading it all at 1 GB/s: {minutes:.0f} min. On one core computing binds, on 64 {binds}.")


def simulate(config: DataEngineConfig, folder: Path) -> Path:
    from sim.rooms.noise import DepthNoise
    from sim.rooms.scannet_writer import write_scene
    from sim.rooms.sim_source import CAMERA_640, CAMERA_1296, make_source

    source = make_source(
        config.seed,
        config.frames,
        triangles=config.triangles,
        color_camera=CAMERA_1296,
        depth_camera=CAMERA_640,
        depth_noise=DepthNoise(),
    )
    write_scene(source, folder)
    return folder / source.scene_id


def main() -> int:
    config = tyro.cli(DataEngineConfig, description=__doc__)
    cv2.setNumThreads(1)
    print(f"one thread of {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        run(config, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
