"""Quality of service that recorded topics are played with: what the bag says, or a file of overrides as rosbag2 takes
it. No ROS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sim.bags.player_bag import Topic

_UNLIMITED = QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE
_ENUMS: Mapping[str, type[QosHistory] | type[QosReliability] | type[QosDurability] | type[QosLiveliness]] = {
    "history": QosHistory,
    "reliability": QosReliability,
    "durability": QosDurability,
    "liveliness": QosLiveliness,
}
_DURATIONS = ("deadline", "lifespan", "liveliness_lease_duration")


def offered_qos(latched: bool, depth: int = 10) -> Qos:
    """Reliable, which serves best-effort subscribers too; latched: kept for subscribers that come late."""
    return profile(depth=depth, durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE)


def played_qos(topic: Topic) -> Qos:
    """As offered; latched topics keep all of their messages."""
    return offered_qos(topic.latched, max(10, topic.count) if topic.latched else 10)


def read_overrides(path: Path) -> dict[str, Qos]:
    """Topic -> profile of a file as `ros2 bag play --qos-profile-overrides-path` takes it:

        /tf_static:
          durability: transient_local
          history: keep_all

    Fields that are left out are reliable, volatile, keep_last with depth 10 and unlimited durations.

    Raises ValueError naming the file, the topic and the field.
    """
    try:
        content = YAML(typ="safe").load(path)
    except (YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected topics with their profiles, found {type(content).__name__}")
    return {str(topic): _read_profile(f"{path}: {topic}", fields) for topic, fields in content.items()}


def _read_profile(where: str, fields: Any) -> Qos:
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: expected fields of a profile, found {fields!r}")
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _ENUMS:
            known = {m.name.lower(): m for m in _ENUMS[name] if m.name not in ("UNKNOWN", "MANUAL_BY_NODE")}
            if value not in known:
                raise ValueError(f"{where}: {name}: expected one of {', '.join(known)}, found {value!r}")
            values[name] = known[value]
        elif name in _DURATIONS:
            whole = isinstance(value, dict) and value.keys() == {"sec", "nsec"}
            if not whole or not all(isinstance(part, int) and part >= 0 for part in value.values()):
                raise ValueError(f"{where}: {name}: expected sec and nsec, found {value!r}")
            values[name] = QosTime(value["sec"], value["nsec"])
        elif name == "depth":
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{where}: depth: expected a number of messages, found {value!r}")
            values[name] = value
        elif name == "avoid_ros_namespace_conventions":
            values[name] = bool(value)
        else:
            known_names = [*_ENUMS, "depth", *_DURATIONS, "avoid_ros_namespace_conventions"]
            raise ValueError(f"{where}: no field {name!r}; there are {', '.join(known_names)}")
    return profile(**values)


def profile(
    history: QosHistory = QosHistory.KEEP_LAST,
    depth: int = 10,
    reliability: QosReliability = QosReliability.RELIABLE,
    durability: QosDurability = QosDurability.VOLATILE,
    deadline: QosTime = _UNLIMITED,
    lifespan: QosTime = _UNLIMITED,
    liveliness: QosLiveliness = QosLiveliness.AUTOMATIC,
    liveliness_lease_duration: QosTime = _UNLIMITED,
    avoid_ros_namespace_conventions: bool = False,
) -> Qos:
    """A profile; what is left out is reliable, volatile, the last ten, without deadlines."""
    return Qos(
        history,
        depth,
        reliability,
        durability,
        deadline,
        lifespan,
        liveliness,
        liveliness_lease_duration,
        avoid_ros_namespace_conventions,
    )
