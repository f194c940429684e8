"""How somebody walks through a room with a camera in hand, looking at things."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import cv2
import numpy as np
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import inverse, look_at, pose, transform

from sim.rooms.collision import upright_boxes
from sim.rooms.design import seeded
from sim.rooms.renderer import Renderer
from sim.rooms.scene import SimScene

_CELL = 0.05
_WALKING_SPEED = 0.5
_MAX_TURN = np.radians(65)
_LOOK_PERIOD = 0.33
_SMOOTHING_ROUNDS = 300
_GLANCE = Camera(96, 72, 86.7, 86.7, 47.5, 35.5)


@dataclass(frozen=True)
class CameraPath:
    """Where the camera was: poses (N, 4, 4) T_world_camera, stamps_ns (N,) int64 in whole microseconds."""

    poses: np.ndarray
    stamps_ns: np.ndarray

    def __len__(self) -> int:
        return len(self.poses)


def make_path(renderer: Renderer, frames: int, *, seed: int = 0, rate_hz: float = 30.0) -> CameraPath:
    """A hand-held walk, a pure function of scene and seed.

    The walker stays clear of furniture, carries the camera at 1.3 to 1.7 m, and turns again and again to whatever of
    the objects it has seen least so far.

    Args:
        renderer: renderer of the scene; it decides what has been seen.
        frames: how many poses, >= 1.
        rate_hz: frames per second of the camera.

    Raises ValueError if the room has no free floor to stand on.
    """
    if frames < 1 or not rate_hz > 0:
        raise ValueError(f"a path needs at least one frame and a positive rate, found {frames} at {rate_hz} Hz")
    rng = seeded("path", renderer.scene.scene_id, seed)
    walk = _walk(renderer.scene, rng, frames, rate_hz)
    height = 1.5 + 0.1 * _wander(rng, frames, rate_hz, 4.0) + 0.008 * _wander(rng, frames, rate_hz, 0.6)
    height = np.clip(height, 1.3, min(1.7, renderer.scene.room[1, 2] - 0.3))
    eyes = transform(renderer.scene.T_world_room, np.column_stack([walk, height]))
    poses = _look(renderer, eyes, rng, rate_hz)
    stamps = np.round((np.arange(frames) + 1) * (1e6 / rate_hz)).astype(np.int64) * 1000
    return CameraPath(poses, stamps)


def _wander(rng: np.random.Generator, count: int, rate_hz: float, period: float) -> np.ndarray:
    """(count,) smooth noise of unit standard deviation that changes over about ``period`` seconds."""
    sigma = period * rate_hz / 4
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    return np.convolve(rng.standard_normal(count + 2 * reach), kernel, mode="valid")


# Where to walk -------------------------------------------------------------------------------------------------


def free_floor(scene: SimScene, clearance: float) -> np.ndarray:
    """(X, Y) bool cells of 5 cm, room frame: nothing between ankle and head within ``clearance`` [m]."""
    size = scene.room[1]
    cells = np.ceil(size[:2] / _CELL).astype(int)
    blocked = np.zeros(cells, dtype=np.uint8)
    T_room_world = inverse(scene.T_world_room)
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * _CELL for n in cells), indexing="ij")
    for o in scene.objects:
        if not o.kind:
            continue
        for box in upright_boxes((p.bounds for p in o.parts), T_room_world @ o.T_world_object):
            if box[7] < 0.2 or box[6] > 1.9:
                continue
            dx, dy = x - box[0], y - box[1]
            along, across = dx * box[4] + dy * box[5], dy * box[4] - dx * box[5]
            blocked |= (np.abs(along) <= box[2] + _CELL / 2) & (np.abs(across) <= box[3] + _CELL / 2)
    blocked = np.pad(blocked, 1, constant_values=1)
    distance = cv2.distanceTransform((1 - blocked).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1] * _CELL
    return distance > clearance


def _largest_region(free: np.ndarray) -> np.ndarray:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(free.astype(np.uint8), connectivity=4)
    if count < 2:
        return np.zeros_like(free)
    return labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))


def _walk(scene: SimScene, rng: np.random.Generator, frames: int, rate_hz: float) -> np.ndarray:
    """(frames, 2) floor positions, room frame [m]."""
    for clearance in (0.28, 0.2, 0.12, 0.05):
        region = _largest_region(free_floor(scene, clearance))
        if region.sum() * _CELL**2 > 0.6:
            break
    if not region.any():
        raise ValueError(f"{scene.scene_id}: no free floor for a camera path")
    speed = np.clip(_WALKING_SPEED * (1 + 0.35 * _wander(rng, frames, rate_hz, 2.5)), 0.1, 0.8)
    travelled = np.cumsum(speed) / rate_hz
    travelled -= travelled[0]
    cells = np.argwhere(region)
    route = [tuple(cells[rng.integers(len(cells))])]
    while (len(route) - 1) * _CELL < travelled[-1] + 0.5:
        # The farthest of a few random goals: the walk crosses the room rather than trembling in a corner.
        goals = cells[rng.integers(len(cells), size=4)]
        goal = goals[np.argmax(np.linalg.norm(goals - np.array(route[-1]), axis=1))]
        leg = shortest_way(region, route[-1], tuple(goal))
        route += leg[1:] if len(leg) > 1 else [route[-1]]
    line = _smoothed((np.array(route) + 0.5) * _CELL, region)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    length += np.arange(len(length)) * 1e-9
    travelled *= min(1.0, length[-1] / max(travelled[-1], 1e-9))
    return np.column_stack([np.interp(travelled, length, line[:, k]) for k in range(2)])


def shortest_way(region: np.ndarray, start: tuple[int, int], goal: tuple[int, int]) -> list[tuple[int, int]]:
    """Cells of a shortest 8-connected way inside a connected region (A*)."""
    open_, came, cost = [(0.0, start)], {start: start}, {start: 0.0}
    while open_:
        _, cell = heapq.heappop(open_)
        if cell == goal:
            break
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                near = (cell[0] + dx, cell[1] + dy)
                if not (0 <= near[0] < region.shape[0] and 0 <= near[1] < region.shape[1] and region[near]):
                    continue
                new = cost[cell] + np.hypot(dx, dy)
                if new < cost.get(near, np.inf) - 1e-9:
                    cost[near], came[near] = new, cell
                    heapq.heappush(open_, (new + np.hypot(goal[0] - near[0], goal[1] - near[1]), near))
    way = [goal]
    while way[-1] != start:
        way.append(came[way[-1]])
    return way[::-1]


def _smoothed(line: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Relax a polyline towards a smooth one, never leaving the free region."""
    line = line.copy()
    for _ in range(_SMOOTHING_ROUNDS):
        moved = line.copy()
        moved[1:-1] = line[1:-1] + 0.5 * ((line[:-2] + line[2:]) / 2 - line[1:-1])
        cell = np.clip((moved / _CELL).astype(int), 0, np.array(region.shape) - 1)
        inside = region[cell[:, 0], cell[:, 1]]
        line[inside] = moved[inside]
    return line


# Where to look -------------------------------------------------------------------------------------------------


def _look(renderer: Renderer, eyes: np.ndarray, rng: np.random.Generator, rate_hz: float) -> np.ndarray:
    """(N, 4, 4) poses at (N, 3) eye points that follow one target after another with a hand's inertia."""
    scene, frames = renderer.scene, len(eyes)
    targets = {o.object_id: _middle(scene, o.object_id) for o in scene.furniture}
    targets = targets or {0: transform(scene.T_world_room, scene.room.mean(axis=0))}
    seen = dict.fromkeys(targets, 0)
    dt = 1.0 / rate_hz
    yaw, pitch = _angles(eyes[0], targets[_pick(targets, seen, eyes[0], None, rng)])
    rate = np.zeros(2)
    target, until, glance = 0, -1.0, 0.0
    tremor = np.radians(0.35) * np.column_stack([_wander(rng, frames, rate_hz, 0.35) for _ in range(3)])
    roll = np.radians(1.5) * _wander(rng, frames, rate_hz, 2.0) + tremor[:, 2]
    poses = np.empty((frames, 4, 4))
    for i, eye in enumerate(eyes):
        now = i * dt
        if now >= until:
            target = _pick(targets, seen, eye, yaw, rng)
            # A look that finds nothing (what it meant is hidden) must not be repeated for ever.
            seen[target] += 3
            until = now + float(rng.uniform(0.7, 1.4))
        aim_yaw, aim_pitch = _angles(eye, targets[target])
        error = np.array([(aim_yaw - yaw + np.pi) % (2 * np.pi) - np.pi, aim_pitch - pitch])
        # Critically damped: arrives without overshoot, and no faster than a wrist and body turn.
        rate += dt * (16.0 * error - 8.0 * rate)
        rate = np.clip(rate, -_MAX_TURN, _MAX_TURN)
        yaw, pitch = yaw + dt * rate[0], float(np.clip(pitch + dt * rate[1], np.radians(-60), np.radians(30)))
        poses[i] = _posed(eye, yaw + tremor[i, 0], pitch + tremor[i, 1], roll[i])
        if now >= glance:
            glance = now + _LOOK_PERIOD
            ids, counts = np.unique(renderer.render(_GLANCE, poses[i], color=False).ids, return_counts=True)
            for object_id in ids[counts >= 12]:
                if object_id in seen:
                    seen[object_id] += 1
    return poses


def _middle(scene: SimScene, object_id: int) -> np.ndarray:
    lows, highs = zip(*(p.bounds for p in scene.object(object_id).parts), strict=True)
    return transform(scene.object(object_id).T_world_object, (np.min(lows, axis=0) + np.max(highs, axis=0)) / 2)


def _angles(eye: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    d = target - eye
    return float(np.arctan2(d[1], d[0])), float(np.arctan2(d[2], np.hypot(d[0], d[1])))


def _pick(targets, seen, eye, yaw, rng) -> int:
    """The object worth turning to: seen least, not far round, not right under the nose."""

    def cost(object_id: int) -> float:
        away = targets[object_id] - eye
        distance = float(np.linalg.norm(away))
        turn = 0.0
        if yaw is not None:
            turn = abs((np.arctan2(away[1], away[0]) - yaw + np.pi) % (2 * np.pi) - np.pi)
        return (
            0.7 * seen[object_id]
            + 0.8 * turn
            + (3.0 if distance < 0.7 else 0.25 * distance)
            + float(rng.uniform(0, 1.5))
        )

    return min(sorted(targets), key=cost)


def _posed(eye: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    ahead = np.array((np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)))
    c, s = np.cos(roll), np.sin(roll)
    return look_at(eye.tolist(), (eye + ahead).tolist()) @ pose(
        np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), (0, 0, 0)
    )
