"""Registration of two RGB-D views against Open3D's RGB-D odometry and coloured ICP: accuracy and processor time.

Pairs of views of a procedural room with a depth sensor's noise, their poses off by a stated error. All three start from
the same stated relative pose. The error is that of surface points carried from one view into the other. Features that
the product keeps per view are computed before; Open3D's images, clouds and normals are prepared before as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import open3d as o3d
import tyro
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import exponential, inverse, transform
from roboref_core.views.registration import FeatureCache, register
from roboref_core.views.view import View

from sim.rooms.noise import DepthNoise
from sim.rooms.sim_source import make_source

_DEPTH_LIMIT = 6.0
_ICP_VOXELS = (0.08, 0.04, 0.02)


@dataclass
class RegistrationBenchmark:
    """What is measured."""

    seed: int = 1
    """Seed of the room and of the errors."""
    pairs: int = 12
    """Pairs of views."""
    gap: int = 20
    """Frames between the views of a pair, at 30 per second."""
    sigma: tuple[float, float] = (0.02, 1.0)
    """Error of each camera pose per axis [m, degree]."""


def prepared(view: View) -> tuple[o3d.geometry.RGBDImage, o3d.geometry.PointCloud, list[o3d.geometry.PointCloud]]:
    """A view as Open3D takes it: images, and clouds with normals from coarse to fine."""
    rgbd = o3d.geometry.RGBDImage.create_from_color_and_depth(
        o3d.geometry.Image(np.ascontiguousarray(view.color)),
        o3d.geometry.Image(np.ascontiguousarray(view.depth)),
        depth_scale=1.0,
        depth_trunc=_DEPTH_LIMIT,
        convert_rgb_to_intensity=True,
    )
    colored = o3d.geometry.RGBDImage.create_from_color_and_depth(
        o3d.geometry.Image(np.ascontiguousarray(view.color)),
        o3d.geometry.Image(np.ascontiguousarray(view.depth)),
        depth_scale=1.0,
        depth_trunc=_DEPTH_LIMIT,
        convert_rgb_to_intensity=False,
    )
    cloud = o3d.geometry.PointCloud.create_from_rgbd_image(colored, intrinsics(view.camera))
    levels = []
    for voxel in _ICP_VOXELS:
        level = cloud.voxel_down_sample(voxel)
        level.estimate_normals(o3d.geometry.KDTreeSearchParamHybrid(radius=2 * voxel, max_nn=30))
        levels.append(level)
    return rgbd, cloud, levels


def intrinsics(camera: Camera) -> o3d.camera.PinholeCameraIntrinsic:
    return o3d.camera.PinholeCameraIntrinsic(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)


def odometry(reference, query, stated: np.ndarray, camera: Camera) -> np.ndarray:
    """Open3D's hybrid RGB-D odometry; the stated pose where it says that it failed."""
    found, T, _ = o3d.pipelines.odometry.compute_rgbd_odometry(
        reference[0],
        query[0],
        intrinsics(camera),
        stated,
        o3d.pipelines.odometry.RGBDOdometryJacobianFromHybridTerm(),
        o3d.pipelines.odometry.OdometryOption(),
    )
    return T if found else stated


def colored_icp(reference, query, stated: np.ndarray) -> np.ndarray:
    """Open3D's coloured ICP, coarse to fine."""
    T = stated
    for voxel, source, target in zip(_ICP_VOXELS, reference[2], query[2], strict=True):
        try:
            T = o3d.pipelines.registration.registration_colored_icp(source, target, 2 * voxel, T).transformation
        except RuntimeError:  # No correspondence within the gate.
            continue
    return T


def registered(a: View, b: View, cache: FeatureCache, translation: float, rotation: float) -> np.ndarray | None:
    return register(a, b, cache, translation, rotation).T_query_reference


def main(config: RegistrationBenchmark) -> None:
    rng = np.random.default_rng(config.seed)
    translation, rotation = config.sigma[0], float(np.radians(config.sigma[1]))
    source = make_source(config.seed, 2 * config.gap * config.pairs, triangles=60_000, depth_noise=DepthNoise())
    errors: dict[str, list[np.ndarray]] = {}
    times: dict[str, list[float]] = {}
    cache = FeatureCache()
    for i in range(0, 2 * config.gap * config.pairs, 2 * config.gap):
        views = []
        for k in (i, i + config.gap):
            noise = np.concatenate([rng.normal(0, translation, 3), rng.normal(0, rotation, 3)])
            views.append(
                View(
                    view_id=str(k), stamp_ns=k, color=source.color(k), camera=source.color_camera,
                    depth=source.depth(k), T_world_camera=source.poses[k] @ exponential(noise),
                )
            )  # fmt: skip
        a, b = views
        assert a.T_world_camera is not None and b.T_world_camera is not None
        stated = inverse(b.T_world_camera) @ a.T_world_camera
        truth = inverse(source.poses[i + config.gap]) @ source.poses[i]
        surface = cache.surface(a)
        assert surface is not None
        points = surface.points[::10]
        for view in views:
            cache.of(view)  # warm, as those of views that were asked about before
        clouds = prepared(a), prepared(b)
        ways: dict[str, Callable[[], np.ndarray | None]] = {
            "stated": partial(np.asarray, stated),
            "roboref": partial(registered, a, b, cache, translation, rotation),
            "Open3D odometry": partial(odometry, *clouds, stated, a.camera),
            "Open3D coloured ICP": partial(colored_icp, *clouds, stated),
        }
        for name, way in ways.items():
            start = time.process_time()
            T = way()
            assert T is not None
            times.setdefault(name, []).append(time.process_time() - start)
            carried = np.linalg.norm(transform(T, points) - transform(truth, points), axis=1)
            errors.setdefault(name, []).append(carried)
    baseline = {"error": np.median(np.concatenate(errors["roboref"])), "time": np.median(times["roboref"])}
    print(f"{'':22}{'median':>9}{'p90':>9}{'in 5 cm':>9}{'error':>8}{'cpu':>10}{'p95':>8}{'time':>8}")
    for name, parts in errors.items():
        all_errors, spent = np.concatenate(parts), np.median(times[name])
        print(
            f"{name:22}{100 * np.median(all_errors):6.2f} cm{100 * np.percentile(all_errors, 90):6.2f} cm"
            f"{100 * np.mean(all_errors < 0.05):7.0f} %{np.median(all_errors) / baseline['error']:7.1f}x"
            f"{1000 * spent:7.0f} ms{1000 * np.percentile(times[name], 95):5.0f} ms{spent / baseline['time']:7.1f}x"
        )


if __name__ == "__main__":
    main(tyro.cli(RegistrationBenchmark, description=__doc__))
