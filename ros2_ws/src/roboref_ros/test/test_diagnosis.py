"""One diagnosis from measured facts: each cause has its words, and its code."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from roboref_core.errors import ErrorCode, ReferError
from roboref_ros.intake.diagnosis import IntakeFacts, StreamFacts, diagnose

DAY = 86400.0
HEARD = {"count": 300, "rate": 30.0, "silence": 0.02, "delay": 0.05, "publishers": 1}
COLOR = StreamFacts("/c", "/c_info", **HEARD)
DEPTH = StreamFacts("/d", "/d_info", **HEARD)
NOTHING = {"count": 0, "rate": float("nan"), "silence": None}
FINE = IntakeFacts(COLOR, DEPTH, pairs=300, nearest_gap=0.0, slop=0.02, queue_size=10, pose_topic="/tf", clock=1.7e9)


def both(**changes) -> dict:
    return {"color": replace(COLOR, **changes), "depth": replace(DEPTH, **changes)}


CAUSES = {
    "nobody publishes": (both(**NOTHING, publishers=0), ErrorCode.NO_VIEW, ["no image arrives", "nobody publishes"]),
    "lost on the way": (both(**NOTHING), ErrorCode.NO_VIEW, ["no image arrives", "QoS"]),
    "no depth": ({"depth": replace(DEPTH, **NOTHING)}, ErrorCode.NO_VIEW, ["300 images", "/c", "none on /d"]),
    "no colour": ({"color": replace(COLOR, **NOTHING)}, ErrorCode.NO_VIEW, ["300 images", "/d", "none on /c"]),
    "fell silent": ({"depth": replace(DEPTH, silence=12.0)}, ErrorCode.VIEW_STALE, ["last image on /d", "12.0 s ago"]),
    "slow but alive": (both(rate=0.5, silence=4.0), ErrorCode.VIEW_STALE, ["0.5 Hz"]),
    "refused": (
        {"problem": ReferError(ErrorCode.IMAGE_INVALID, "encoding 'x'")},
        ErrorCode.IMAGE_INVALID,
        ["encoding 'x'"],
    ),
    "waiting": ({"pending": 3}, ErrorCode.NO_VIEW, ["/c_info", "/tf"]),
    "two clocks": (
        {"pairs": 0, "depth": replace(DEPTH, delay=10800.0)},
        ErrorCode.NO_VIEW,
        ["10800.0 s apart", "clocks differ"],
    ),
    "queue too short": (
        {"pairs": 0, "depth": replace(DEPTH, delay=0.75)},
        ErrorCode.NO_VIEW,
        ["/d comes 0.70 s after /c", "sync.queue_size 10 holds 0.33 s", "set it to 33"],
    ),
    "slop too small": ({"pairs": 0, "nearest_gap": 0.025}, ErrorCode.NO_VIEW, ["sync.slop", "0.0250 s apart"]),
    "a bag": (both(delay=3 * DAY), ErrorCode.VIEW_STALE, ["30.0 Hz", "3.0 days behind", "use_sim_time"]),
    "no stamps": (both(delay=1.7e9), ErrorCode.VIEW_STALE, ["/c have the stamp 0", "driver"]),
    "camera ahead": (both(delay=-10800.0), ErrorCode.CLOCK_MISMATCH, ["3.0 h ahead of", "camera's clock"]),
    "another clock": ({**both(delay=3 * DAY), "simulated": True}, ErrorCode.VIEW_STALE, ["/clock"]),
    "no clock": ({"simulated": True, "clock": 0.0}, ErrorCode.NO_VIEW, ["nobody publishes /clock"]),
    "overflow": ({"overflowed": 7}, ErrorCode.NO_VIEW, ["faster", "7 dropped"]),
    "nothing wrong": ({}, ErrorCode.VIEW_STALE, ["30.0 Hz", "0.05 s"]),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_named(cause):
    changes, code, words = CAUSES[cause]
    found = diagnose(replace(FINE, **changes))
    assert found.code == code, found
    for word in words:
        assert word in found.text
