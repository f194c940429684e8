"""Against an independent exact renderer: Open3D's ray casting of the true mesh, at the full size of the colour picture.

Sensor depth is noisy and has holes; with ``pose_noise`` the poses are off as well, as real ones are.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import from_quaternion
from roboref_core.prompting.answer_text import NOT_VISIBLE
from roboref_core.views.visibility import Visibility

from offline.data_engine.building.scene_build import SceneBuilder
from offline.data_engine.config import SceneConfig, TaskConfig
from offline.data_engine.filters import FilterConfig
from offline.data_engine.seeing.surface import Surface
from offline.data_engine.seeing.visibility import FrameVisibility
from offline.data_engine.sources import open_scene
from offline.data_engine.sources.labels import structural_family
from offline.data_engine.task_build import build_tasks
from offline.data_engine.task_files import answer_points, read_samples

o3d = pytest.importorskip("open3d")
CLEARLY_VISIBLE = 1.5e-4
"""Share of the picture from which an object's visible part is clearly there; 0 pixels: clearly not."""


class Truth:
    """Object ids of every pixel, from true poses."""

    def __init__(self, scene):
        mesh, instances = scene.mesh(), scene.instances()
        self.poses, self.camera = scene.poses.copy(), scene.color_camera
        self._ids = instances.vertex_ids[mesh.faces[:, 0]]
        self._caster = o3d.t.geometry.RaycastingScene(nthreads=1)
        self._caster.add_triangles(o3d.core.Tensor(mesh.vertices), o3d.core.Tensor(mesh.faces.astype(np.uint32)))
        self.ids = lru_cache(maxsize=None)(self._cast)

    def _cast(self, i: int) -> np.ndarray:
        camera, T = self.camera, self.poses[i]
        uv = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).reshape(-1, 2)
        directions = camera.rays(uv) @ T[:3, :3].T
        rays = np.concatenate([np.broadcast_to(T[:3, 3], directions.shape), directions], axis=1).astype(np.float32)
        hit = self._caster.cast_rays(o3d.core.Tensor(rays))
        found = np.isfinite(hit["t_hit"].numpy())
        faces = np.where(found, hit["primitive_ids"].numpy().astype(np.int64), 0)
        return np.where(found, self._ids[faces], 0).reshape(camera.height, camera.width)


def disturb(scene, rotation: float, translation: float) -> None:
    """Random pose errors with these standard deviations [rad, m per axis]."""
    rng = np.random.default_rng(5)
    for i in range(len(scene)):
        axis = rng.normal(size=3)
        half = rng.normal() * rotation / 2
        q = (*(axis / np.linalg.norm(axis) * np.sin(half)), np.cos(half))
        scene.poses[i] = scene.poses[i] @ from_quaternion(q, rng.normal(size=3) * translation)


def object_level(scene, truth: Truth, step: int) -> dict[str, int]:
    """True and false positives and negatives of VISIBLE on decidable cases; and wrongly hidden objects."""
    surface = Surface.build(scene.mesh(), scene.instances())
    labels = {u: label for u, label in scene.instances().labels.items() if structural_family(label) is None}
    counts = dict.fromkeys(("tp", "fp", "fn", "tn", "hidden", "wrongly_hidden"), 0)
    for i in range(0, len(scene), step):
        depth, ids = scene.depth(i), truth.ids(i)
        frame = FrameVisibility(surface, scene.color_camera, scene.poses[i], depth, scene.depth_camera)
        for uid in labels:
            view, n = frame.view(uid), int((ids == uid).sum())
            if view.certainly_hidden:
                counts["hidden"] += 1
                counts["wrongly_hidden"] += n > 0
            if 0 < n < CLEARLY_VISIBLE * ids.size or (n and not _measured(scene, depth, ids == uid)):
                continue
            found = view.state == Visibility.VISIBLE
            counts[("tp" if n else "fp") if found else ("fn" if n else "tn")] += 1
    return counts


def _measured(scene, depth: np.ndarray, mask: np.ndarray) -> bool:
    """Did the sensor measure at least half of what is to be seen of the object? Else nobody can decide from it."""
    v, u = np.nonzero(mask)
    c, d = scene.color_camera, scene.depth_camera
    column = np.rint((u - c.cx) * d.fx / c.fx + d.cx).astype(int).clip(0, d.width - 1)
    row = np.rint((v - c.cy) * d.fy / c.fy + d.cy).astype(int).clip(0, d.height - 1)
    return bool((depth[row, column] > 0).mean() >= 0.5)


def check_emitted(scene, truth: Truth, out) -> dict[str, int]:
    """Build a scene's data and compare every answer with the truth. Returns how much was compared."""
    config = SceneConfig(filters=FilterConfig(keep_immobile=True), depth_pictures=False)
    SceneBuilder(scene, config, "h").build(out / "tree", "train")
    task = TaskConfig()
    task = dataclasses.replace(task, samples=dataclasses.replace(task.samples, with_grid=False))
    build_tasks(out / "tree", out / "tasks", "train", scene.scene_id, [scene.scene_id], task, "h")
    position = {int(frame): i for i, frame in enumerate(scene.frame_ids)}
    compared = {"points": 0, "negatives": 0}
    for where, sample in read_samples(out / "tasks" / "records" / "train" / f"{scene.scene_id}.jsonl"):
        if sample["form"] == "concat" or sample.get("relation", "").startswith("free_"):
            continue
        ids = truth.ids(position[int(sample["query_frame"])])
        text = sample["conversations"][1]["value"]
        if text == NOT_VISIBLE:
            if sample["task"] != "referring" and sample["visibility"]["reason"] != "inpainted":
                compared["negatives"] += 1
                assert not (ids == sample["uid"]).any(), (where, sample["id"])
            continue
        for x, y in answer_points(text):
            pixel = int(y * ids.shape[0]), int(x * ids.shape[1])
            compared["points"] += 1
            if sample["uid"] is not None:
                assert ids[pixel] == sample["uid"], (where, sample["id"], ids[pixel])
            else:
                assert ids[pixel] != 0, (where, sample["id"])
    return compared


def assert_accurate(counts: dict[str, int]) -> None:
    assert counts["tp"] >= 0.98 * (counts["tp"] + counts["fp"]), counts
    assert counts["tp"] >= 0.95 * (counts["tp"] + counts["fn"]), counts
    assert counts["wrongly_hidden"] == 0 and counts["hidden"] > 0.8 * counts["tn"], counts


def test_on_a_small_noisy_scan(scans, tmp_path):
    scene = open_scene(scans / "scene0001_00")
    truth = Truth(scene)
    assert_accurate(object_level(scene, truth, 4))
    assert check_emitted(scene, truth, tmp_path)["points"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("pose_noise", [0.0, 1.0])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_on_noisy_scenes(seed, pose_noise, tmp_path):
    from sim.rooms.noise import DepthNoise
    from sim.rooms.sim_source import make_source

    color = Camera(648, 484, 585.0, 582.7, 323.2, 241.2)
    scene = make_source(seed, 150, triangles=120_000, color_camera=color, depth_noise=DepthNoise())
    truth = Truth(scene)
    scene.poses = scene.poses.copy()
    # 0.1 degrees and 3 mm: what BundleFusion-like tracking leaves on ScanNet.
    disturb(scene, np.radians(0.1) * pose_noise, 0.003 * pose_noise)
    counts = object_level(scene, truth, 5)
    assert_accurate(counts)
    compared = check_emitted(scene, truth, tmp_path)
    assert compared["points"] > 30
    print(seed, pose_noise, counts, compared)
