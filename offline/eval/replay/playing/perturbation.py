"""What goes wrong in a replay, on purpose: all of it is options, nothing by default, and stated in the report."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from offline.eval.replay.truth.truth import GroundTruthScene
from sim.bags.perturb import Delivery, PoseDrift, PoseNoise
from sim.bags.recorder import RecordOptions, as_millimetres
from sim.rooms.depth_defects import DepthDefects
from sim.rooms.design import seeded


@dataclass(frozen=True)
class Disturbance:
    """What goes wrong between a sequence and its recording. Noise is in metres and degrees everywhere."""

    pose_noise: tuple[float, float] = (0.0, 0.0)
    """Standard deviation of noise on the recorded poses, per axis [m, degrees]; the node is told of it."""
    pose_drift: tuple[float, float] = (0.0, 0.0)
    """Random walk of the recorded poses: standard deviation after 1 s, per axis [m, degrees]; the node is not told."""
    dropped: float = 0.0
    """Share of the frames that never arrive."""
    late: float = 0.0
    """Share of the frames that arrive late, behind newer ones; their stamps are right."""
    delay: float = 0.25
    """How late those are [s]."""
    focal_scale: float = 1.0
    """The camera infos state the focal lengths times this: the calibration of another camera."""
    noise_seed: int = 0
    """Seed of the errors."""

    def __post_init__(self):
        if not self.focal_scale > 0:
            raise ValueError(f"focal_scale must be positive, found {self.focal_scale}")
        # Each of its parts checks its own numbers.
        self.disturbed(RecordOptions())

    def disturbed(self, options: RecordOptions) -> RecordOptions:
        """``options`` with what goes wrong."""
        poses, drift = ((metres, float(np.radians(degrees))) for metres, degrees in (self.pose_noise, self.pose_drift))
        return replace(
            options,
            noise=PoseNoise(*poses, self.noise_seed),
            drift=PoseDrift(*drift, self.noise_seed),
            delivery=Delivery(self.dropped, self.late, self.delay, self.noise_seed),
            focal_scale=self.focal_scale,
        )


@dataclass(frozen=True)
class Perturbation(Disturbance):
    """What the robot is given instead of the truth, or what changes while it drives. Truths stay exact, in the true
    world: drift shows as 3D error even where the right pixel was found."""

    moved: int = 0
    """Things put elsewhere in the middle of the walk, after their reference views (procedural rooms)."""
    removed: int = 0
    """Things taken away in the middle of the walk (procedural rooms)."""
    depth_noise: float = 0.0
    """Standard deviation of noise on the recorded depth at 1 m, growing with the distance squared [m]."""
    depth_holes: float = 0.0
    """Share of each depth image without measurement, in patches."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("moved", "removed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")
        # Checks its own numbers.
        self.depth_defects()

    def depth_defects(self) -> DepthDefects:
        """What is wrong with the depth."""
        return DepthDefects(self.depth_noise, self.depth_holes)

    def seen(self, scene: GroundTruthScene) -> GroundTruthScene:
        """``scene`` with the depth that the robot has of it."""
        defects = self.depth_defects()
        return WorseDepth(scene, defects, self.noise_seed) if defects else scene

    def to_json(self) -> dict:
        """The options that are set."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def describe(self) -> str:
        """For people, e.g. "3 things moved, poses off by 2 cm and 1 degree per axis"; empty without any."""
        centimetres, degrees = 100 * self.pose_noise[0], self.pose_noise[1]
        drift, turn = 100 * self.pose_drift[0], self.pose_drift[1]
        said = (
            (self.moved, f"{self.moved} things moved in the middle of the walk"),
            (self.removed, f"{self.removed} things taken away in the middle of the walk"),
            (any(self.pose_noise), f"poses off by {centimetres:g} cm and {degrees:g} degree per axis"),
            (any(self.pose_drift), f"poses drifting by {drift:g} cm and {turn:g} degree per axis and root of a second"),
            (self.depth_noise, f"depth off by {100 * self.depth_noise:g} cm at 1 m"),
            (self.depth_holes, f"{100 * self.depth_holes:g} % of the depth missing"),
            (self.dropped, f"{100 * self.dropped:g} % of the frames dropped"),
            (self.late, f"{100 * self.late:g} % of the frames {self.delay:g} s late"),
            (self.focal_scale != 1, f"focal lengths stated {self.focal_scale:g} times the true ones"),
        )
        return ", ".join(text for is_set, text in said if is_set)


class WorseDepth:
    """A GroundTruthScene whose depth has defects, the same whenever it is read; its truth is untouched."""

    def __init__(self, scene: GroundTruthScene, defects: DepthDefects, seed: int):
        self._scene, self._defects, self._seed = scene, defects, seed

    def __getattr__(self, name: str):
        return getattr(self._scene, name)

    def __len__(self) -> int:
        return len(self._scene)

    def depth(self, i: int) -> np.ndarray:
        """(h, w) float32 [m], 0 = no measurement."""
        rng = seeded("depth defects", self._seed, self._scene.scene_id, int(self._scene.frame_ids[i]))
        return self._defects(self._scene.depth(i), rng)

    def depth_raw(self, i: int) -> tuple[np.ndarray, float]:
        """(h, w) uint16 millimetres, 0 = no measurement, and 0.001."""
        return as_millimetres(self.depth(i), 1.0), 0.001
