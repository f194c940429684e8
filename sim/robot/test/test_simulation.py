"""The simulated robot without ROS: physics, odometry, navigator, changes of the room."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from roboref_core.geometry.pose import inverse

from sim.robot.drive import Drive, RobotState, Velocity
from sim.robot.navigator import Goal, NoWay
from sim.robot.obstacles import CELL, Obstacles
from sim.robot.odometry import Odometry, OdometryError
from sim.robot.room_changes import parse_change
from sim.robot.simulation import SCAN_HEIGHT, Observation, RobotConfig, Simulation
from sim.rooms.rooms import make_scene

SMALL = {"width": 64, "rate": 10.0}


@pytest.fixture(scope="module")
def scene():
    return make_scene(5, triangles=20_000)


def run(simulation: Simulation, seconds: float, velocity: Velocity | None = None) -> None:
    for _ in range(round(seconds * simulation.config.rate)):
        if velocity is not None:
            simulation.command(velocity)
        simulation.advance()


def test_a_differential_drive_turns_on_its_place_and_has_no_sideways(scene):
    simulation = Simulation(scene, RobotConfig(**SMALL))
    before = simulation.state
    run(simulation, 1.0, Velocity(left=0.4, up=0.3, turn=1.0))
    assert (simulation.state.x, simulation.state.y, simulation.state.z) == (before.x, before.y, 0.0)
    turned = (simulation.state.yaw - before.yaw + np.pi) % (2 * np.pi) - np.pi
    # It takes a quarter of a second to reach 1 rad/s.
    assert turned == pytest.approx(1.0 - 0.125, abs=0.02)


def test_without_commands_it_stops(scene):
    simulation = Simulation(scene, RobotConfig(**SMALL))
    simulation.command(Velocity(turn=1.0))
    run(simulation, 0.5)
    assert simulation.velocity.turn == pytest.approx(1.0)
    run(simulation, 1.0)
    assert simulation.velocity == Velocity()
    simulation.command(Velocity(forward=float("nan"), turn=float("inf")))
    run(simulation, 0.3)
    assert np.isfinite((simulation.state.x, simulation.state.y, simulation.state.yaw)).all()


@pytest.mark.parametrize("mode", ["differential", "flying"])
@pytest.mark.parametrize("seed", range(2))
def test_it_never_drives_through_anything(scene, mode, seed):
    drive = Drive(mode=mode)
    simulation = Simulation(scene, RobotConfig(drive=drive, seed=seed, **SMALL))
    rng = np.random.default_rng(seed)
    flying = mode == "flying"
    for _ in range(10):
        forward, left, up, turn = rng.uniform(-1, 1, 4)
        run(simulation, 1.0, Velocity(abs(forward), left, up, turn))
        state = simulation.state
        gap = simulation.obstacles.distance(np.array((state.x, state.y)), state.z if flying else None)
        assert gap >= drive.radius - 1e-9
    if not flying:
        run(simulation, 20.0, Velocity(forward=0.5))
        assert simulation.collisions >= 1


def test_exact_odometry_is_the_true_motion_and_errors_grow(scene):
    drifting = OdometryError(scale=0.02, drift=0.02, slip=0.01, turn_drift=0.01)
    ends = {}
    for name, error in (("exact", OdometryError()), ("drifting", drifting)):
        simulation = Simulation(scene, RobotConfig(odometry=error, **SMALL))
        start = simulation.state.T_room_base
        for turn in (0.5, -0.5, 1.0):
            run(simulation, 2.0, Velocity(forward=0.3, turn=turn))
        moved = inverse(start) @ simulation.state.T_room_base
        ends[name] = np.linalg.norm(simulation._odometry.T_odom_base[:3, 3] - moved[:3, 3])
    assert ends["exact"] < 1e-9 < 1e-3 < ends["drifting"] < 1.0


def test_odometry_scale_counts_too_much():
    odometry = Odometry(OdometryError(scale=0.1), np.eye(4), np.random.default_rng(0))
    T = np.eye(4)
    for _ in range(10):
        T[0, 3] += 0.1
        odometry.update(T.copy())
    assert odometry.T_odom_base[0, 3] == pytest.approx(1.1)


@pytest.mark.parametrize("seed", range(3))
def test_the_navigator_arrives_without_touching_anything(seed):
    simulation = Simulation(make_scene(20 + seed, triangles=20_000), RobotConfig(seed=seed, **SMALL))
    rng = np.random.default_rng(seed)
    cells = np.argwhere(simulation.obstacles.free(0.35))
    arrived = tried = 0
    for cell in cells[rng.integers(len(cells), size=3)]:
        x, y = (cell + 0.5) * CELL
        try:
            simulation.go_to(Goal(float(x), float(y), 1.0))
        except NoWay:
            continue
        tried += 1
        while simulation.navigator.busy and simulation.stamp_ns < 200e9:
            simulation.advance()
        assert not simulation.navigator.busy
        arrived += np.hypot(simulation.state.x - x, simulation.state.y - y) < 0.12
        assert abs(simulation.state.yaw - 1.0) < 0.1
    assert tried >= 1 and arrived == tried
    assert simulation.collisions == 0


def test_goals_that_cannot_be_reached_are_refused(scene):
    simulation = Simulation(scene, RobotConfig(**SMALL))
    with pytest.raises(NoWay, match=r"no way from .* to within 0\.5 m of \(50\.00, 50\.00\)"):
        simulation.go_to(Goal(50, 50))
    with pytest.raises(NoWay, match="is not a place"):
        simulation.go_to(Goal(float("nan"), 0))
    assert not simulation.navigator.busy


def test_the_same_commands_give_the_same_bytes(scene):
    def digest(seed: int) -> str:
        simulation = Simulation(scene, RobotConfig(seed=seed, start=None, **SMALL))
        sums = hashlib.sha256()
        for i in range(6):
            simulation.command(Velocity(forward=0.3, turn=0.2 * i))
            if i == 3:
                simulation.change(parse_change(json.dumps({"remove": simulation.scene.furniture[0].object_id})))
            simulation.advance()
            seen = simulation.observe()
            for part in (seen.color, seen.depth_mm, seen.T_room_camera, seen.T_odom_base):
                sums.update(part.tobytes())
        return sums.hexdigest()

    assert digest(1) == digest(1) != digest(2)


def test_things_are_moved_removed_and_brought(scene):
    simulation = Simulation(scene, RobotConfig(**SMALL))
    before = {o["id"]: o for o in simulation.objects()}
    on_floor = next(o for o in scene.furniture if o.rests_on is not None and not scene.object(o.rests_on).kind)
    # Somewhere free, away from the robot.
    cells = np.argwhere(simulation.obstacles.free(0.4))
    here = np.array((simulation.state.x, simulation.state.y))
    x, y = max(((c + 0.5) * CELL for c in cells), key=lambda place: np.linalg.norm(place - here)).tolist()
    simulation.change(parse_change(json.dumps({"bring": "box", "x": x, "y": y, "seed": 3})))
    (brought,) = {o["id"] for o in simulation.objects()} - before.keys()
    assert simulation.obstacles.distance(np.array((x, y))) < 0
    with pytest.raises(ValueError, match="the place is taken by"):
        simulation.change({"bring": "box", "x": x, "y": y})
    simulation.change({"remove": brought})
    assert {o["id"] for o in simulation.objects()} == before.keys()
    with pytest.raises(ValueError, match="not inside the room"):
        simulation.change({"move": on_floor.object_id, "x": -5.0, "y": 0.0})
    simulation.change({"remove": on_floor.object_id})
    assert on_floor.object_id not in {o["id"] for o in simulation.objects()}
    with pytest.raises(ValueError, match="no object"):
        simulation.change({"remove": on_floor.object_id})


def test_a_person_comes_in_walks_and_leaves(scene):
    simulation = Simulation(scene, RobotConfig(**SMALL))
    before = {o["id"] for o in simulation.objects()}
    cells = np.argwhere(simulation.obstacles.free(0.4))
    here = np.array((simulation.state.x, simulation.state.y))
    x, y = max(((c + 0.5) * CELL for c in cells), key=lambda place: np.linalg.norm(place - here)).tolist()
    simulation.change(parse_change(json.dumps({"bring": "person", "x": x, "y": y})))
    (walker,) = {o["id"] for o in simulation.objects()} - before
    design = simulation.scene.object(walker)
    heights = np.array([part.bounds for part in design.parts])[..., 2]
    assert heights.min() == pytest.approx(0.0, abs=0.01) and 1.55 < heights.max() < 1.9
    assert simulation.obstacles.distance(np.array((x, y))) < 0
    # A robot beside it that looks at it sees it nearer than what was behind it.
    near = min(
        ((c + 0.5) * CELL for c in np.argwhere(simulation.obstacles.free(0.25))),
        key=lambda p: abs(np.hypot(*(p - (x, y))) - 0.7),
    )
    start = (*near.tolist(), float(np.arctan2(y - near[1], x - near[0])))
    with_person, without = (
        Simulation(room, RobotConfig(**SMALL, start=start, exact_depth=True)).observe().depth_mm.astype(int)
        for room in (simulation.scene, scene)
    )
    assert (without - with_person > 100).sum() > 50
    for step in range(1, 4):
        simulation.change({"move": walker, "x": x + 0.03 * step, "y": y})
        simulation.advance()
        (place,) = (o["position"] for o in simulation.objects() if o["id"] == walker)
        assert place[:2] == pytest.approx((x + 0.03 * step, y), abs=0.002)
    simulation.change({"remove": walker})
    assert {o["id"] for o in simulation.objects()} == before


def test_somebody_walks_through_and_the_robot_lets_them_pass(scene):
    def walk(seed: int, goal: bool) -> tuple[np.ndarray, Simulation]:
        simulation = Simulation(scene, RobotConfig(exact_depth=True, **SMALL))
        if goal:
            cells = np.argwhere(simulation.obstacles.free(0.4))
            x, y = ((cells[len(cells) // 3] + 0.5) * CELL).tolist()
            simulation.go_to(Goal(x, y))
        simulation.change(parse_change(json.dumps({"walk": seed})))
        with pytest.raises(ValueError, match="walks through already"):
            simulation.change({"walk": 5})
        places = []
        while (walker := simulation.walker) is not None and len(places) < 600:
            places.append((walker.x, walker.y))
            assert simulation.obstacles.distance(np.array(places[-1])) > 0.1
            gap = np.hypot(walker.x - simulation.state.x, walker.y - simulation.state.y)
            assert gap > simulation.config.drive.radius + 0.2
            simulation.advance()
        return np.array(places), simulation

    for seed in range(3):
        places, simulation = walk(seed, goal=True)
        assert simulation.walker is None and simulation.collisions == 0
        assert np.linalg.norm(places[-1] - places[0]) > 0.5
        assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.81 / simulation.config.rate
        assert (walk(seed, goal=True)[0] == places).all()
    assert not np.array_equal(walk(0, goal=False)[0][:5], walk(1, goal=False)[0][:5])


def test_a_walker_is_seen_and_scanned(scene):
    simulation = Simulation(scene, RobotConfig(exact_depth=True, **SMALL))
    simulation.change({"walk": 0})
    walker = simulation.walker
    towards = float(np.arctan2(walker.y - simulation.state.y, walker.x - simulation.state.x))
    simulation.state = RobotState(simulation.state.x, simulation.state.y, 0.0, towards)
    seen, ranges = simulation.observe(), simulation.scan(np.linspace(-np.pi, np.pi, 360))
    simulation.walker = None
    simulation._around = simulation.obstacles
    without, empty = simulation.observe(), simulation.scan(np.linspace(-np.pi, np.pi, 360))
    nearer = without.depth_mm.astype(int) - seen.depth_mm > 100
    assert nearer.sum() > 30 and (seen.color != without.color).any(axis=-1)[nearer].mean() > 0.9
    assert (ranges <= empty).all() and (ranges < empty - 0.1).any()


def test_the_scan_ends_where_something_begins(scene):
    simulation = Simulation(scene, RobotConfig(**SMALL))
    here = np.array((simulation.state.x, simulation.state.y))
    bearings = np.linspace(-np.pi, np.pi, 90)
    low = Obstacles(scene, SCAN_HEIGHT, SCAN_HEIGHT + 1e-6)
    for bearing, way in zip(bearings, simulation.scan(bearings), strict=True):
        ray = np.array((np.cos(simulation.state.yaw + bearing), np.sin(simulation.state.yaw + bearing)))
        assert abs(low.distance(here + way * ray)) < 1e-6
        steps = here + np.arange(0.0, way - 0.01, 0.02)[:, None] * ray
        assert min(low.distance(place) for place in steps) > 0


def test_light_exposure_and_noise_change(scene):
    simulation = Simulation(scene, RobotConfig(**SMALL))

    def observed(change: dict) -> Observation:
        simulation.change(parse_change(json.dumps(change)))
        return simulation.observe()

    bright = simulation.observe()
    dark = observed({"light": 0})
    assert (dark.color <= bright.color).all() and dark.color.mean() < 0.95 * bright.color.mean()
    moved = observed({"light": 1, "x": 0.3, "y": 0.3})
    assert (moved.color != bright.color).any() and (moved.depth_mm == bright.depth_mm).all()
    with pytest.raises(ValueError, match="lamp is not inside the room"):
        simulation.change({"light": 1, "x": -1})
    exact = observed({"depth_noise": 0}).depth_mm.astype(int)
    errors = []
    for factor in (1, 4):
        noisy = observed({"depth_noise": factor}).depth_mm.astype(int)
        errors.append(np.abs(noisy - exact)[(noisy > 0) & (exact > 0)].mean())
    assert errors[1] > 2 * errors[0] > 0
    simulation.change({"odometry_noise": 0})
    before = simulation.T_room_odom
    run(simulation, 2.0, Velocity(forward=0.2, turn=0.5))
    assert np.abs(simulation.T_room_odom - before).max() < 1e-9
    simulation.change({"odometry_noise": 50})
    run(simulation, 2.0, Velocity(forward=0.2, turn=0.5))
    assert np.abs(simulation.T_room_odom - before).max() > 0.01


def test_a_goal_survives_something_put_into_the_way(scene):
    simulation = Simulation(scene, RobotConfig(**SMALL))
    cells = np.argwhere(simulation.obstacles.free(0.4))
    for cell in cells[:: max(1, len(cells) // 20)]:
        x, y = ((cell + 0.5) * CELL).tolist()
        try:
            simulation.go_to(Goal(x, y))
        except NoWay:
            continue
        middle = simulation.navigator.way[len(simulation.navigator.way) // 2].tolist()
        if len(simulation.navigator.way) < 30:
            continue
        try:
            simulation.change({"bring": "ball", "x": middle[0], "y": middle[1]})
        except ValueError:
            continue
        run(simulation, 40.0)
        assert simulation.collisions == 0 and not simulation.navigator.busy
        return
    pytest.fail("the room has no long way")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "must be JSON"),
        ("[]", "one of move, remove, bring, walk, light, exposure"),
        ('{"move": 3}', r"\['x', 'y'\] are missing"),
        ('{"move": 3, "x": 1, "y": true}', "y must be a number"),
        ('{"move": 3, "x": 1, "y": NaN}', "y must be a number"),
        ('{"bring": "elephant", "x": 1, "y": 1}', "no kind 'elephant'; there are .*chair"),
        ('{"remove": 3, "x": 1}', r"\['x'\] are unknown"),
        ('{"exposure": 0}', "above 0"),
        ('{"depth_noise": -1}', "at least 0 and at most 10, found -1"),
        ('{"light": 1, "z": 1}', r"\['z'\] are unknown"),
    ],
)
def test_changes_that_are_wrong_say_what_is_expected(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_change(text)


def test_a_base_looks_ahead():
    assert RobotState(1, 2, 0, np.pi / 2).T_room_base[:3, 0] == pytest.approx([0, 1, 0])
    assert RobotState(0, 0, 1, 0, 0.5).T_room_base[2, 0] == pytest.approx(np.sin(0.5))
