"""Parameters that a node does not have: ROS ignores them at start, and later refuses them without their name."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter
from roboref_core.command_line import did_you_mean

_QOS_OVERRIDES = "qos_overrides."
# Read by the middleware's own node, which does not always declare it.
_OF_ROS = ("start_type_description_service",)


def unknown(node: Node) -> list[str]:
    """What was given at start and is no parameter that the node has declared, with the name that may have been meant.

    A parameter file's section for all nodes may hold it on purpose: it is worth a warning.
    """
    known = node.get_parameters_by_prefix("")
    return [
        f"no parameter {name!r}{did_you_mean(name, known)}"
        for name in _undeclared(node)
        if name not in _OF_ROS and not name.startswith(_QOS_OVERRIDES)
    ]


def unused_qos(node: Node) -> list[str]:
    """The same of QoS overrides, which are declared when the node subscribes."""
    known = [name for name in node.get_parameters_by_prefix("") if name.startswith(_QOS_OVERRIDES)]
    return [
        f"{name} overrides no QoS of this node{did_you_mean(name, known)}"
        for name in _undeclared(node)
        if name.startswith(_QOS_OVERRIDES)
    ]


def suggest(node: Node) -> Callable[[list[Parameter]], list[Parameter]]:
    """What refuses a change of a parameter that does not exist by its name, and says which may have been meant."""

    def look_up(changes: list[Parameter]) -> list[Parameter]:
        for change in changes:
            if not node.has_parameter(change.name):
                hint = did_you_mean(change.name, node.get_parameters_by_prefix(""))
                raise ParameterNotDeclaredException(f"{change.name!r}{hint}")
        return changes

    return look_up


def _undeclared(node: Node) -> list[str]:
    return [name for name in node._parameter_overrides if not node.has_parameter(name)]
