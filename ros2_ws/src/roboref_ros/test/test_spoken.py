"""A person at a terminal or in RViz: clicks, texts, and answers in words."""

from __future__ import annotations

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from fake_rgbd import AHEAD, AWAY, BESIDE, WALL_POINT, WORLD
from geometry_msgs.msg import Point, PointStamped
from in_process import patient, spinning
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status
from roboref_msgs.msg import LastKnownTarget, Pixel, ReferAnswer, ReferredTarget
from roboref_ros.conversions import to_time
from roboref_ros.services.spoken import in_words
from std_msgs.msg import Header, String


class Person:
    def __init__(self, camera):
        self.heard = []
        self._camera = camera
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        camera.node.create_subscription(String, "/roboref/say", lambda m: self.heard.append(m.data), latched)
        self._asks = camera.node.create_publisher(String, "/roboref/ask", 10)
        self._clicks = camera.node.create_publisher(PointStamped, "/clicked_point", 10)
        camera.eventually(
            lambda: (self._asks.get_subscription_count(), self._clicks.get_subscription_count()), lambda n: all(n)
        )

    def ask(self, text: str) -> str:
        return self._say(lambda: self._asks.publish(String(data=text)))

    def click(self, place, frame=WORLD) -> str:
        x, y, z = map(float, place)
        message = PointStamped(header=Header(frame_id=frame), point=Point(x=x, y=y, z=z))
        return self._say(lambda: self._clicks.publish(message))

    def _say(self, publish) -> str:
        self.heard.clear()
        publish()
        return self._camera.eventually(lambda: list(self.heard), bool)[-1]


def test_a_clicked_point_is_what_the_next_text_is_about(domain):
    with spinning(domain) as (node, camera):
        person = Person(camera)
        assert "NO_VIEW" in person.ask("the red chair")
        camera.see(AHEAD)
        assert "INVALID_QUERY" in person.ask("the red chair"), "geometry knows no words"
        assert "marked at x 0.10, y 3.00, z 1.30 m in map" in person.click(WALL_POINT)
        camera.see(BESIDE)
        assert "that spot: at x 0.10, y 3.00, z 1.30 m in map" in person.ask("that spot")
        assert person.ask("").startswith("the marked place: at x 0.10")
        camera.see(AWAY)
        assert "not visible now" in person.ask("that spot")
        assert "not finite" in person.click((float("nan"), 0, 0))
        assert node.set_parameters([Parameter("ask.mark_lifetime", value=0.0)])[0].successful
        assert "INVALID_QUERY" in person.ask("that spot"), "the mark is too old"
        node.trigger_deactivate()
        assert "NOT_ACTIVE" in person.ask("that spot")


def test_words_reach_the_model(domain, monkeypatch):
    with patient(domain, monkeypatch) as (model, _, camera):
        model.go.set()
        person = Person(camera)
        camera.see(AHEAD)
        said = person.ask("the mug")
        assert said.startswith("the mug: at x 0.10, y 3.00, z 1.30 m in map, give or take 0.")
        assert "INVALID_QUERY" in person.ask("x" * 20_000)


def target(x: float, stamp: int = 0) -> ReferredTarget:
    return ReferredTarget(header=Header(frame_id="map", stamp=to_time(stamp)), position=Point(x=x), depth=2.0)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"status": Status.ERROR, "error_code": ErrorCode.BUSY, "error_msg": "4 wait"}, "it: BUSY: 4 wait"),
        ({"status": Status.NOT_VISIBLE}, "it: not visible"),
        (
            {"status": Status.NOT_VISIBLE, "last_known": [LastKnownTarget(target=target(1.0, 5_000_000_000))]},
            "it: not visible now; 7 s ago at x 1.00, y 0.00, z 0.00 m in map, 2.0 m before the camera",
        ),
        (
            {"status": Status.AMBIGUOUS, "targets": [target(1.0), target(2.0)]},
            "it: 2 places fit: at x 1.00, y 0.00, z 0.00 m in map, 2.0 m before the camera; or at x 2.00, y 0.00, "
            "z 0.00 m in map, 2.0 m before the camera",
        ),
        (
            {"status": Status.FOUND_WITHOUT_POSITION, "targets": [ReferredTarget(pixel=Pixel(u=3.2, v=4.0))]},
            "it: seen at pixel (3, 4), but there is no depth to tell where that is",
        ),
    ],
)
def test_every_status_has_its_words(fields, words):
    fields = {name: int(value) if name in ("status", "error_code") else value for name, value in fields.items()}
    assert in_words("it", ReferAnswer(**fields), 12_000_000_000) == words
