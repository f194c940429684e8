"""Messages -> views: what is waited for, for how long, and what becomes of what never comes."""

from __future__ import annotations

import struct
import threading
import time

import numpy as np
import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from fake_rgbd import AHEAD, CAMERA, OPTICAL, color_message, depth_message, render
from roboref_core.errors import ErrorCode
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import pose
from roboref_ros.conversions import camera_to_info, to_time
from roboref_ros.intake.intake import Intake, StreamTopics
from roboref_ros.intake.pairing import COLOR, DEPTH, StampPairer
from roboref_ros.poses.base import CameraPose
from roboref_ros.poses.history import PoseHistory
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

SECOND = 1_000_000_000
IMAGES = render(AHEAD)


class Poses:
    """A source whose poses the test gives."""

    topic, world_frame, frames = "/pose", "map", None

    def __init__(self):
        self.history = PoseHistory(0, SECOND, 1000 * SECOND, lambda: 0)
        self.links = {}
        self.broken = ""

    def camera_pose(self, stamp_ns, optical_frame, final):
        if self.broken:
            raise ValueError(self.broken)
        found = self.history.at(stamp_ns, final)
        return found and CameraPose(found.before, "map")

    def newest(self, target_frame, source_frame):
        return self.links.get((target_frame, source_frame))


class Bench:
    """An intake with everything around it."""

    def __init__(
        self,
        timeout: float,
        depth_info_expected: bool = False,
        queue_size: int = 10,
        max_backwards_ns: int = 1000 * SECOND,
    ):
        self.poses = Poses()
        self.views, self.problems, self.pose_problems, self.cleared = [], [], [], 0
        self.clock_ns = 0
        self._changed = threading.Condition()
        self.intake = Intake(
            StampPairer(0, queue_size, SECOND),
            self.poses,
            (StreamTopics("/c", "/c_info"), StreamTopics("/d", "/d_info")),
            max_backwards_ns,
            clock=lambda: self.clock_ns,
            next_id=iter(map(str, range(1000))).__next__,
            on_view=lambda view: self._note(self.views, view),
            on_problem=lambda problem: self._note(self.problems, problem),
            on_pose_problem=lambda problem: self._note(self.pose_problems, problem),
            on_clear=self._clear,
            publishers=lambda topic: int(depth_info_expected),
            depth_pose=self.poses.newest,
            timeout=timeout,
        )

    def _note(self, notes, note):
        with self._changed:
            notes.append(note)
            self._changed.notify()

    def _clear(self):
        self.cleared += 1

    def until(self, happened):
        deadline = time.monotonic() + 10
        while not happened():
            assert time.monotonic() < deadline
            with self._changed:
                self._changed.wait(0.005)

    def put(self, stamp, color=True, depth=True, frame=OPTICAL):
        header = Header(stamp=to_time(stamp), frame_id=OPTICAL)
        if color:
            self.intake.put_image(COLOR, color_message(IMAGES[0], header))
        if depth:
            self.intake.put_image(DEPTH, depth_message(IMAGES[1], Header(stamp=header.stamp, frame_id=frame)))

    def put_info(self, stream=COLOR, camera=CAMERA):
        self.intake.put_info(stream, camera_to_info(camera, Header()))

    def put_pose(self, stamp):
        self.poses.history.add(stamp, AHEAD)
        self.intake.wake()


@pytest.fixture
def make_bench():
    benches = []

    def make(timeout=5.0, **fields) -> Bench:
        benches.append(Bench(timeout, **fields))
        benches[-1].intake.start()
        return benches[-1]

    yield make
    for bench in benches:
        bench.intake.close()


PARTS = {
    "info": lambda bench: bench.put_info(),
    "pose": lambda bench: bench.put_pose(SECOND),
    "colour": lambda bench: bench.put(SECOND, depth=False),
    "depth": lambda bench: bench.put(SECOND, color=False),
}


@pytest.mark.parametrize("last", PARTS)
def test_a_view_is_complete_when_its_last_part_arrives(make_bench, last):
    bench = make_bench(timeout=30.0)
    for name, part in PARTS.items():
        if name != last:
            part(bench)
    assert not bench.views
    PARTS[last](bench)
    bench.until(lambda: bench.views)
    (view,) = bench.views
    np.testing.assert_array_equal(view.color, IMAGES[0])
    np.testing.assert_allclose(view.depth, IMAGES[1], atol=0.0005001)
    np.testing.assert_array_equal(view.T_world_camera, AHEAD)
    assert (view.stamp_ns, view.frame_id, view.world_frame, view.camera) == (SECOND, OPTICAL, "map", CAMERA)
    assert not bench.problems and bench.intake.problem is None


def test_nothing_is_decoded_on_the_way(make_bench):
    bench = make_bench()
    bench.put_info()
    bench.put_pose(SECOND)
    bench.put(SECOND)
    bench.until(lambda: bench.views)
    undecoded = CAMERA.width * CAMERA.height * (3 + 2)
    assert bench.views[0].nbytes == undecoded
    assert undecoded + bench.views[0].depth.nbytes == bench.views[0].nbytes, "once it is looked at"


def test_a_view_whose_pose_never_comes_is_a_view_without_pose(make_bench):
    bench = make_bench(timeout=0.05)
    bench.put_info()
    bench.put(SECOND)
    bench.until(lambda: bench.views)
    assert bench.views[0].T_world_camera is None and bench.views[0].world_frame == "map"
    assert bench.pose_problems == [bench.intake.pose_problem] and "/pose" in bench.intake.pose_problem
    bench.put_pose(2 * SECOND)
    bench.put(2 * SECOND)
    bench.until(lambda: len(bench.views) == 2)
    assert bench.views[1].T_world_camera is not None and not bench.intake.pose_problem


def test_a_pose_that_cannot_be_used_is_not_waited_for(make_bench):
    bench = make_bench(timeout=1000.0)
    bench.poses.broken = "set pose.extrinsics"
    bench.put_info()
    bench.put(SECOND)
    bench.until(lambda: bench.views)
    assert bench.intake.pose_problem == "set pose.extrinsics"


def test_views_keep_their_order_while_one_waits(make_bench):
    bench = make_bench(timeout=0.3)
    bench.put_info()
    for i in (1, 2, 3):
        bench.put(i * 2 * SECOND)
    for i in (2, 3):
        bench.put_pose(i * 2 * SECOND)
    bench.until(lambda: len(bench.views) == 3)
    assert [view.stamp_ns // SECOND for view in bench.views] == [2, 4, 6]
    assert [view.T_world_camera is None for view in bench.views] == [True, False, False]


def test_without_camera_info_there_is_no_view_but_a_reason(make_bench):
    bench = make_bench(timeout=0.05)
    bench.put(SECOND)
    bench.until(lambda: bench.problems)
    assert bench.intake.problem.code == ErrorCode.CAMERA_INFO_INVALID
    assert "/c_info" in bench.intake.diagnosis().text
    bench.put_info()
    bench.put_pose(2 * SECOND)
    bench.put(2 * SECOND)
    bench.until(lambda: bench.views)
    assert bench.intake.problem is None


def test_a_change_of_resolution_waits_for_its_camera_info(make_bench):
    """A driver sends the first image of the new size just before its camera info, or just after."""
    bench = make_bench(timeout=30.0)
    bench.put_info(camera=CAMERA.resized(160, 120))
    bench.put_pose(SECOND)
    bench.put(SECOND)
    assert not bench.views
    bench.put_info()
    bench.until(lambda: bench.views)
    assert bench.views[0].camera == CAMERA


def test_depths_own_camera_info_is_waited_for_where_somebody_publishes_it(make_bench):
    own = CAMERA.resized(CAMERA.width, CAMERA.height)
    own = type(own)(own.width, own.height, own.fx + 1, own.fy, own.cx, own.cy)
    bench = make_bench(timeout=30.0, depth_info_expected=True)
    bench.put_info()
    bench.put_pose(SECOND)
    bench.put(SECOND)
    assert not bench.views
    bench.put_info(DEPTH, own)
    bench.until(lambda: bench.views)
    assert bench.views[0].depth_camera == own


def test_colours_camera_info_serves_depth_of_its_size_only(make_bench):
    bench = make_bench(timeout=0.05)
    bench.put_info()
    bench.put_pose(SECOND)
    bench.put(SECOND)
    bench.until(lambda: bench.views)
    assert bench.views[0].depth_camera == CAMERA
    header = Header(stamp=to_time(2 * SECOND), frame_id=OPTICAL)
    bench.intake.put_image(COLOR, color_message(IMAGES[0], header))
    bench.intake.put_image(DEPTH, depth_message(IMAGES[1][::2, ::2], header))
    bench.until(lambda: bench.problems)
    assert bench.intake.problem.code == ErrorCode.CAMERA_INFO_INVALID and "/d_info" in str(bench.intake.problem)


DEPTH_FRAME = "camera_depth_optical_frame"


def test_unregistered_depth_is_refused_where_nothing_tells_its_place(make_bench):
    bench = make_bench(timeout=0.05)
    bench.put_info()
    bench.put_info(DEPTH)
    bench.put_pose(SECOND)
    bench.put(SECOND, frame=DEPTH_FRAME)
    bench.until(lambda: bench.problems)
    assert not bench.views and bench.problems[0].code == ErrorCode.IMAGE_INVALID
    for text in (OPTICAL, DEPTH_FRAME, "depth.extrinsics"):
        assert text in str(bench.problems[0])


def test_unregistered_depth_is_registered_where_something_tells_its_place(make_bench):
    bench = make_bench(timeout=30.0)
    own = Camera(160, 120, 110.0, 110.0, 80.0, 60.0)
    T_color_depth = pose(np.eye(3), (0.05, 0.0, 0.0))
    bench.put_info()
    bench.put_info(DEPTH, own)
    bench.put_pose(SECOND)
    header = Header(stamp=to_time(SECOND), frame_id=OPTICAL)
    bench.intake.put_image(COLOR, color_message(IMAGES[0], header))
    depth = render(AHEAD @ T_color_depth, own)[1]
    bench.intake.put_image(DEPTH, depth_message(depth, Header(stamp=header.stamp, frame_id=DEPTH_FRAME)))
    assert not bench.views, "TF may come yet"
    bench.poses.links[OPTICAL, DEPTH_FRAME] = T_color_depth
    bench.until(lambda: bench.views)
    view = bench.views[0]
    truth = render(AHEAD, view.depth_camera)[1]
    measured = view.depth > 0
    assert measured.mean() > 0.6
    assert (np.abs(view.depth - truth)[measured] < 0.03).mean() > 0.98


@pytest.mark.parametrize("stream", [COLOR, DEPTH])
def test_a_camera_info_of_another_camera_is_refused(make_bench, stream):
    bench = make_bench(timeout=0.05)
    for each in (COLOR, DEPTH):
        frame = "left_camera" if each == stream else OPTICAL
        bench.intake.put_info(each, camera_to_info(CAMERA, Header(frame_id=frame)))
    bench.put_pose(SECOND)
    bench.put(SECOND)
    bench.until(lambda: bench.problems)
    assert bench.problems[0].code == ErrorCode.CAMERA_INFO_INVALID and not bench.views
    assert "left_camera" in str(bench.problems[0]) and OPTICAL in str(bench.problems[0])


def test_an_outlier_of_the_camera_clock_changes_nothing(make_bench):
    bench = make_bench(max_backwards_ns=SECOND)
    bench.put_info()
    stamps = [100 * SECOND + i * SECOND // 10 for i in range(6)]
    for i, stamp in enumerate(stamps):
        bench.put_pose(stamp)
        bench.put(stamp)
        if i == 2:
            bench.put(stamp + 3600 * SECOND)
    bench.until(lambda: len(bench.views) == 6)
    assert [view.stamp_ns for view in bench.views] == stamps
    assert bench.cleared == 0 and "because of their stamps: 2" in bench.intake.summary()


def test_a_true_jump_clears_once_and_loses_no_image(make_bench):
    bench = make_bench(timeout=0.05, max_backwards_ns=SECOND)
    bench.put_info()
    stamps = [(100 + away) * SECOND + i * SECOND // 10 for away in (3600, 0) for i in range(4)]
    for stamp in stamps:
        bench.put(stamp)
    bench.until(lambda: bench.cleared and bench.views and bench.views[-1].stamp_ns == stamps[-1])
    assert bench.cleared == 1
    assert [view.stamp_ns for view in bench.views][-4:] == stamps[-4:]


@pytest.mark.parametrize("size", [(20000, 20000), (CAMERA.height, CAMERA.width + 1)])
def test_compressed_images_are_checked_by_their_headers(make_bench, size):
    header = struct.pack(">IIBBBBB", size[1], size[0], 16, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4) + bytes(4) + b"IEND" + bytes(4)
    bench = make_bench(timeout=0.05)
    bench.put_info()
    bench.put_info(DEPTH)
    bench.put_pose(SECOND)
    stamp = Header(stamp=to_time(SECOND), frame_id=OPTICAL)
    bench.intake.put_image(COLOR, color_message(IMAGES[0], stamp))
    data = bytes(12) + png
    bench.intake.put_image(DEPTH, CompressedImage(header=stamp, format="16UC1; compressedDepth png", data=data))
    bench.until(lambda: bench.problems)
    assert not bench.views and str(size[1]) in str(bench.problems[0])


def test_clearing_drops_what_was_handed_over_before(make_bench):
    bench = make_bench(timeout=1000.0)
    bench.put_info()
    bench.put(SECOND)
    bench.put(2 * SECOND, depth=False)
    bench.until(lambda: bench.intake.pairer.paired == 1)
    bench.intake.clear()
    bench.until(lambda: bench.cleared == 1)
    for i in (1, 2, 3):
        bench.put_pose(i * SECOND)
    bench.put(2 * SECOND, color=False)
    bench.put(3 * SECOND)
    bench.until(lambda: bench.views)
    assert [view.stamp_ns // SECOND for view in bench.views] == [3]


def test_a_flood_is_bounded_and_counted(make_bench):
    bench = make_bench(timeout=1000.0)
    bench.put_info()
    count = 300
    for i in range(1, count + 1):
        bench.put(i * SECOND // 30)
    pairer = bench.intake.pairer
    bench.until(
        lambda: 2 * pairer.paired + sum(pairer.waiting) + sum(pairer.dropped) + bench.intake.overflowed == 2 * count
    )
    assert pairer.paired - len(bench.views) <= 60, "what waits for a pose is bounded: the oldest goes on without"
    assert all(view.T_world_camera is None for view in bench.views)


def test_one_view_that_is_not_taken_does_not_end_the_stream(make_bench):
    bench = make_bench()
    bench.put_info()
    take, bench.intake._on_view = bench.intake._on_view, lambda view: 1 / 0
    bench.put_pose(SECOND)
    bench.put(SECOND)
    bench.until(lambda: bench.problems)
    assert "ZeroDivisionError" in str(bench.problems[0])
    bench.intake._on_view = take
    bench.put_pose(2 * SECOND)
    bench.put(2 * SECOND)
    bench.until(lambda: bench.views)


def test_the_diagnosis_names_what_is_silent(make_bench):
    bench = make_bench()
    assert bench.intake.diagnosis().text == "no image arrives on /c nor on /d, and nobody publishes there"
    bench.put(SECOND, depth=False)
    bench.until(lambda: "1 images have arrived on /c, but none on /d" in bench.intake.diagnosis().text)
    bench.put(2 * SECOND, color=False)
    bench.until(lambda: "no two have stamps within 0 s" in bench.intake.diagnosis().text)


def test_the_diagnosis_names_a_queue_that_is_too_short(make_bench):
    bench = make_bench(queue_size=3)
    bench.put_info()
    for i in range(30):
        bench.clock_ns = i * SECOND // 30
        bench.put(bench.clock_ns + 5, depth=False)
        if i >= 20:
            bench.put((i - 20) * SECOND // 30 + 5, color=False)
        time.sleep(1 / 30)
    bench.until(lambda: "sync.queue_size" in bench.intake.diagnosis().text)
    assert not bench.views
