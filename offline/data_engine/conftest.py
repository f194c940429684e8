from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A tree with the views of two synthetic scenes of different places, and the first scene's facts."""
    pytest.importorskip("open3d")
    from offline.data_engine.building.scene_build import SceneBuilder
    from offline.data_engine.config import SceneConfig, config_hash
    from offline.data_engine.test.synthetic import SyntheticScene

    root = tmp_path_factory.mktemp("five_frames")
    config = SceneConfig()
    for scene_id in ("scene0000_00", "scene0001_00"):
        scene = SyntheticScene(scene_id=scene_id, frames=16, noise=0.002, holes=0.05)
        SceneBuilder(scene, config, config_hash(config)).build(root, "train")
    return root


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """A folder of two small simulated scans in ScanNet's files."""
    from roboref_core.geometry.camera import Camera

    from sim.rooms.noise import DepthNoise
    from sim.rooms.scannet_writer import write_scene
    from sim.rooms.sim_source import make_source

    folder = tmp_path_factory.mktemp("scans")
    color, depth = Camera(324, 242, 292.0, 292.0, 161.5, 120.5), Camera(160, 120, 144.0, 144.0, 79.5, 59.5)
    for seed in (1, 2):
        source = make_source(
            seed, 40, triangles=20_000, objects=8, color_camera=color, depth_camera=depth, depth_noise=DepthNoise()
        )
        write_scene(source, folder)
    return folder
