from __future__ import annotations

import numpy as np
import pytest
import tyro

from offline.eval.replay.playing.perturbation import Perturbation
from offline.eval.replay.truth.truth import GroundTruthScene
from sim.bags.recorder import RecordOptions
from sim.rooms.path import make_path
from sim.rooms.renderer import Renderer
from sim.rooms.rooms import make_scene
from sim.rooms.sim_source import SimSource


@pytest.fixture(scope="module")
def source() -> SimSource:
    renderer = Renderer(make_scene(3, triangles=15_000), shadows=False)
    return SimSource(renderer, make_path(renderer, 4, seed=3))


def test_by_default_nothing_is_wrong(source):
    none = Perturbation()
    assert none.describe() == "" and none.to_json() == {}
    assert none.seen(source) is source
    options = none.disturbed(RecordOptions())
    assert not options.noise and not options.drift and options.focal_scale == 1
    assert (options.delivery.dropped, options.delivery.late) == (0, 0)


def test_every_option_is_said_and_written_down():
    arguments = (
        "--moved 3 --removed 2 --pose-noise 0.02 1 --pose-drift 0.01 0.5 --depth-noise 0.003 --depth-holes 0.15 "
        "--dropped 0.2 --late 0.3 --delay 0.4 --focal-scale 1.05 --noise-seed 9"
    )
    perturbation = tyro.cli(Perturbation, args=arguments.split())
    assert perturbation.to_json() == {
        "moved": 3,
        "removed": 2,
        "pose_noise": (0.02, 1.0),
        "pose_drift": (0.01, 0.5),
        "depth_noise": 0.003,
        "depth_holes": 0.15,
        "dropped": 0.2,
        "late": 0.3,
        "delay": 0.4,
        "focal_scale": 1.05,
        "noise_seed": 9,
    }
    said = perturbation.describe()
    for part in (
        "3 things moved",
        "2 things taken",
        "2 cm and 1 degree",
        "1 cm and 0.5 degree",
        "0.3 cm at 1 m",
        "15 % of the depth",
        "20 % of the frames",
        "30 % of the frames 0.4 s",
        "1.05 times",
    ):
        assert part in said
    options = perturbation.disturbed(RecordOptions(max_frames=7))
    assert options.noise.rotation == pytest.approx(np.radians(1))
    assert options.drift.rotation == pytest.approx(np.radians(0.5))
    assert (options.delivery.delay, options.max_frames) == (0.4, 7)


def test_the_robot_has_worse_depth_but_the_truth_stays(source):
    seen = Perturbation(depth_noise=0.01, depth_holes=0.2).seen(source)
    assert isinstance(seen, GroundTruthScene)
    np.testing.assert_array_equal(seen.true_color_depth(1), source.true_color_depth(1))
    depth, (counts, unit) = seen.depth(1), seen.depth_raw(1)
    np.testing.assert_array_equal(depth, seen.depth(1))
    np.testing.assert_allclose(counts * unit, depth, atol=0.0005 + 1e-6)
    had = source.depth(1) > 0
    assert (depth[had] == 0).mean() == pytest.approx(0.2, abs=0.05)
    other = Perturbation(depth_noise=0.01, depth_holes=0.2, noise_seed=1).seen(source)
    assert (other.depth(1) != depth).any()


@pytest.mark.parametrize("wrong", [{"moved": -1}, {"focal_scale": 0}, {"dropped": 1}, {"pose_drift": (-1, 0)}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="found"):
        Perturbation(**wrong)
