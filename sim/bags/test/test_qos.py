from __future__ import annotations

import pytest
from rosbags.interfaces import QosDurability, QosHistory, QosReliability, QosTime

from sim.bags.player_bag import Topic
from sim.bags.qos import played_qos, read_overrides


def test_latched_topics_keep_all_their_messages():
    static = played_qos(Topic("/tf_static", "tf2_msgs/msg/TFMessage", 40, []))
    assert (static.durability, static.depth) == (QosDurability.TRANSIENT_LOCAL, 40)
    assert played_qos(Topic("/tf", "tf2_msgs/msg/TFMessage", 40, [])).durability == QosDurability.VOLATILE


def test_overrides_as_rosbag2_takes_them(tmp_path):
    path = tmp_path / "qos.yaml"
    path.write_text(
        "/a:\n  durability: transient_local\n  history: keep_all\n  reliability: best_effort\n"
        "  deadline: {sec: 1, nsec: 5}\n  avoid_ros_namespace_conventions: false\n/b:\n  depth: 3\n"
    )
    found = read_overrides(path)
    a = found["/a"]
    assert (a.durability, a.history) == (QosDurability.TRANSIENT_LOCAL, QosHistory.KEEP_ALL)
    assert (a.reliability, a.deadline) == (QosReliability.BEST_EFFORT, QosTime(1, 5))
    assert (found["/b"].depth, found["/b"].durability) == (3, QosDurability.VOLATILE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- a", "expected topics"),
        ("/a: 3", "/a: expected fields"),
        ("/a: {durabilty: volatile}", "no field 'durabilty'"),
        ("/a: {durability: latched}", "durability: expected one of .*transient_local.*found 'latched'"),
        ("/a: {depth: many}", "depth: expected a number"),
        ("/a: {deadline: {sec: 1}}", "deadline: expected sec and nsec"),
        ("/a: [", "not a YAML file"),
    ],
)
def test_overrides_that_are_wrong_are_refused_by_name(tmp_path, text, reason):
    path = tmp_path / "qos.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"qos\.yaml: .*{reason}"):
        read_overrides(path)
