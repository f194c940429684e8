"""`roboref sim live` in a real browser: a mark in an earlier picture, the answer in a later one, there, and stop."""

from __future__ import annotations

import json
import re
import sys
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from roboref_core.geometry.pose import inverse, transform

from page.test.in_browser import free_port, is_served, needs_browser, wait_for
from sim.robot.navigator import plan
from sim.robot.obstacles import CELL
from sim.robot.simulation import RobotConfig, Simulation
from sim.rooms.rooms import make_scene

pytestmark = needs_browser
ROOM, TRIANGLES = 7, 20_000


class Watcher:
    """Hears the robot's true pose and the node's answers, and sends goals."""

    def __init__(self, domain: int):
        import rclpy
        from geometry_msgs.msg import PoseStamped
        from rclpy.executors import SingleThreadedExecutor
        from roboref_msgs.msg import ReferAnswer

        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("watcher", context=self._context)
        self.answers: list[ReferAnswer] = []
        self.poses: list[PoseStamped] = []
        self._node.create_subscription(PoseStamped, "/ground_truth/pose", self.poses.append, 10)
        self._node.create_subscription(ReferAnswer, "/roboref/answer", self.answers.append, 10)
        self._goals = self._node.create_publisher(PoseStamped, "/goal_pose", 1)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        import rclpy

        self._executor.shutdown()
        self._thread.join(5)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    @property
    def place(self) -> np.ndarray:
        """(2,) where the robot really is [m]."""
        p = self.poses[-1].pose.position
        return np.array((p.x, p.y))

    def stands(self, seconds: float = 1.0) -> bool:
        """Whether the robot has neither moved nor turned for so long, in its own time."""
        moments = [(p.header.stamp.sec + p.header.stamp.nanosec / 1e9, p.pose) for p in self.poses[-100:]]
        since = moments[-1][0] - seconds
        recent = np.array([(p.position.x, p.position.y, p.orientation.z) for t, p in moments if t >= since])
        return moments[-1][0] - moments[0][0] > seconds and np.ptp(recent, axis=0).max() < 1e-3

    def send(self, x: float, y: float, yaw: float) -> None:
        from geometry_msgs.msg import PoseStamped

        goal = PoseStamped()
        goal.header.frame_id = "map"
        goal.pose.position.x, goal.pose.position.y = x, y
        goal.pose.orientation.z, goal.pose.orientation.w = np.sin(yaw / 2), np.cos(yaw / 2)
        self._goals.publish(goal)


@pytest.fixture
def watcher(domain):
    watcher = Watcher(domain)
    yield watcher
    watcher.close()


def lookouts(truth: Simulation, object_id: int) -> list[tuple[float, float, float]]:
    """Two places x y yaw that it can go to, 2.1 to 2.8 m from a thing that it sees from there, 35 degrees apart."""
    foot = np.array(next(o["position"] for o in truth.objects() if o["id"] == object_id))[:2]
    start, camera = (truth.state.x, truth.state.y), replace(truth.camera, width=160, height=120)
    camera = replace(camera, fx=camera.fx / 4, fy=camera.fy / 4, cx=79.5, cy=59.5)
    free = truth.obstacles.free(truth.config.drive.radius + 0.12)
    found: list[tuple[float, float, float]] = []
    for cell in np.argwhere(free)[::7]:
        place = (cell + 0.5) * CELL
        away = foot - place
        if not 2.1 <= np.linalg.norm(away) <= 2.8 or plan(free, start, tuple(place), 0.05) is None:
            continue
        yaw = float(np.arctan2(*away[::-1]))
        if any(abs((yaw - other + np.pi) % (2 * np.pi) - np.pi) < np.radians(35) for *_, other in found):
            continue
        T_room_base = replace(truth.state, x=place[0], y=place[1], yaw=yaw).T_room_base
        T_world_camera = truth.scene.T_world_room @ T_room_base @ truth.T_base_camera
        if (truth._renderer.render(camera, T_world_camera, color=False).ids == object_id).sum() > 100:
            found.append((*place.tolist(), yaw))
        if len(found) == 2:
            return found
    pytest.fail("the room has no two places to see it from")


def mark_on(truth: Simulation, object_id: int, here: np.ndarray, there: np.ndarray) -> tuple[int, int]:
    """A pixel of a thing as a camera sees it, far from its outline and from folds, whose surface another sees too.

    Args:
        here, there: T_world_camera of the two.
    """
    camera = truth.camera
    near, far = (truth._renderer.render(camera, T, color=False) for T in (here, there))
    kernel = np.ones((5, 5), np.uint8)
    step = cv2.dilate(near.depth, kernel) - cv2.erode(near.depth, kernel)
    seen = (near.ids == object_id) & (step < 0.03)
    v, u = np.nonzero(seen)
    points = transform(inverse(there), transform(here, camera.unproject(np.stack([u, v], 1), near.depth[v, u])))
    column, row = np.rint(camera.project(points)).astype(int).T
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    # Well inside its outline there, since the robot will not stand quite where it was sent.
    within = cv2.erode((far.ids == object_id).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    row, column = row[inside], column[inside]
    both = np.zeros(len(u), bool)
    both[inside] = within[row, column] & (np.abs(far.depth[row, column] - points[inside, 2]) < 0.02)
    seen[v, u] = both
    best = cv2.distanceTransform(seen.astype(np.uint8), cv2.DIST_L2, 5).argmax()
    row_best, column_best = np.unravel_index(best, seen.shape)
    return int(column_best), int(row_best)


def test_a_marked_thing_is_found_and_driven_to(tmp_path, started, domain, watcher, browser):
    from roboref_ros.conversions import pose_from_message
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    truth = Simulation(make_scene(ROOM, triangles=TRIANGLES), RobotConfig())
    T_world_room = truth.scene.T_world_room
    bear = next(o["id"] for o in truth.objects() if o["label"] == "teddy bear")
    vertices = truth.scene.geometry.vertices[truth.scene.geometry.vertex_object == bear]
    surface = transform(inverse(T_world_room), vertices)[:, :2]
    first, second = lookouts(truth, bear)

    port = free_port()
    live = (sys.executable, "-m", "offline.cli", "sim", "live")
    # Slower than real time, there is time to press stop.
    where = ("--port", str(port), "--logs", tmp_path / "logs")
    room = ("--room", str(ROOM), "--triangles", str(TRIANGLES), "--backend", "reprojection")
    started(*live, *room, "--speed", "0.4", *where, log=tmp_path / "live")

    def there(place: tuple[float, float, float]) -> bool:
        return bool(watcher.poses and watcher.stands() and np.linalg.norm(watcher.place - place[:2]) < 0.15)

    def drive(place: tuple[float, float, float]) -> None:
        wait_for(lambda: watcher._goals.get_subscription_count() and watcher.poses, "the robot", 180)
        watcher.send(*place)
        wait_for(lambda: there(place), f"the robot at {place}", 300)

    drive(first)
    wait_for(lambda: is_served(port), "the page to be served", 180)
    browser.get(f"http://127.0.0.1:{port}/")

    def element(name: str):
        return browser.find_element(By.CSS_SELECTOR, f"[data-testid={name}]")

    def press(name: str) -> None:
        # Wherever the button is while pictures above it load.
        browser.execute_script("arguments[0].click()", element(name))

    # The picture now, to be marked, pinned so that it stays.
    wait_for(lambda: re.match(r"[1-9]\d* reference views", element("state").text), "views of the node")
    press("pin")
    wait_for(lambda: re.search(r"1 pinned", element("state").text), "a pinned view")
    reference = wait_for(lambda: (e := element("reference")).size["height"] > 100 and e, "a reference view")
    x, y, yaw = second
    T_room_later = replace(truth.state, x=x, y=y, yaw=yaw).T_room_base @ truth.T_base_camera
    T_room_marked = pose_from_message(watcher.poses[-1].pose) @ truth.T_base_camera
    u, v = mark_on(truth, bear, T_world_room @ T_room_marked, T_world_room @ T_room_later)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", reference)
    scale = reference.size["width"] / truth.camera.width
    offset = ((u + 0.5) * scale - reference.size["width"] / 2, (v + 0.5) * scale - reference.size["height"] / 2)
    ActionChains(browser).move_to_element_with_offset(reference, *map(round, offset)).click().perform()
    wait_for(lambda: element("reference").find_elements(By.TAG_NAME, "circle"), "the mark to be drawn")

    drive(second)
    press("ask")
    words = wait_for(lambda: element("words").text, "an answer in words")
    assert words.startswith("FOUND"), words
    wait_for(lambda: element("answer").find_elements(By.TAG_NAME, "ellipse"), "the answer to be drawn")
    circle = element("answer").find_element(By.TAG_NAME, "circle")
    drawn = np.array([float(circle.get_attribute(axis)) for axis in ("cx", "cy")])
    answer = watcher.answers[-1]
    T_room_searched = pose_from_message(answer.view.camera_pose.pose)
    assert np.linalg.norm(T_room_searched[:2, 3] - T_room_marked[:2, 3]) > 0.5
    # What the drawn pixel shows in truth is the bear, at the place that the answer states.
    point, (shown,) = truth._renderer.surface(truth.camera, T_world_room @ T_room_searched, drawn)
    assert shown == bear, truth.scene.labels.get(int(shown))
    p = answer.targets[0].position
    assert np.linalg.norm(transform(inverse(T_world_room), point[0]) - (p.x, p.y, p.z)) < 0.05

    def distance() -> float:
        return float(np.linalg.norm(surface - watcher.place, axis=1).min())

    # It goes there and is stopped on the way: where the robot was there before the click arrived, from the beginning.
    for _ in range(3):
        press("go")
        wait_for(lambda: np.linalg.norm(watcher.place - second[:2]) > 0.1, "the robot to go")
        press("stop")
        wait_for(watcher.stands, "the robot to stop")
        stopped = watcher.place
        wait_for(lambda: not element("way").text, "no way to be told")
        if distance() > 1.2:
            break
        drive(second)
    else:
        pytest.fail(f"three times it went on to {distance():.2f} m before the thing after stop was pressed")

    press("go")
    wait_for(lambda: element("way").text.startswith("there"), "the robot to be there", 300)
    wait_for(watcher.stands, "the robot to stand")
    assert distance() < 1.0
    assert np.linalg.norm(watcher.place - stopped) > 0.2
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, json.dumps(severe, indent=1)
