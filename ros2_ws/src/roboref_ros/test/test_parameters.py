"""Declarations, the YAML that ships and the core's own defaults say the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

import rclpy
import yaml
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.parameter import Parameter
from roboref_core.models.registry import BACKENDS
from roboref_core.referring.refer import ReferConfig
from roboref_core.views.view_buffer import ViewBufferConfig
from roboref_ros import mistyped, parameters

YAML = Path(__file__).parents[1] / "config" / "roboref.yaml"


@pytest.fixture
def make_node(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    nodes = []

    def make(**overrides):
        values = [Parameter(name, value=value) for name, value in overrides.items()]
        nodes.append(rclpy.create_node("parameters", context=context, parameter_overrides=values))
        parameters.declare(nodes[-1])
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.shutdown()


def flat(tree: dict, prefix: str = "") -> dict:
    found = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_the_yaml_lists_every_parameter_with_its_default():
    listed = flat(yaml.safe_load(YAML.read_text())["/**"]["ros__parameters"])
    assert listed == {p.name: p.default for p in parameters.PARAMETERS}
    assert {name: type(value) for name, value in listed.items()} == {
        p.name: type(p.default) for p in parameters.PARAMETERS
    }, "an integer in the place of a float is refused by ROS"


def test_the_yaml_names_every_word_that_a_parameter_takes():
    comments = YAML.read_text()
    for parameter in parameters.PARAMETERS:
        if isinstance(parameter.default, str) and parameter.allowed:
            assert f"# One of {', '.join(parameter.allowed)}." in comments, parameter.name
    assert dict((p.name, p.allowed) for p in parameters.PARAMETERS)["model.backend"] == BACKENDS


def test_defaults_are_the_cores(make_node):
    node = make_node()
    assert parameters.refer_config(node) == ReferConfig()
    assert parameters.buffer_config(node) == ViewBufferConfig()


def leaves(config) -> dict:
    """Values of a nested dataclass by path."""
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        inner = leaves(value) if dataclasses.is_dataclass(value) else {"": value}
        found |= {f"{field.name}.{name}": leaf for name, leaf in inner.items()}
    return found


def other(parameter):
    """An allowed value that is not the default."""
    if isinstance(parameter.default, str):
        return next(value for value in parameter.allowed or ("elsewhere",) if value != parameter.default)
    low, high = parameter.allowed
    changed = type(parameter.default)(high if parameter.default * 2 > high else parameter.default * 2 or high / 2)
    assert changed != parameter.default and low <= changed <= high
    return changed


def test_every_setting_of_the_core_is_a_parameter(make_node):
    overrides = {
        p.name: other(p)
        for p in parameters.PARAMETERS
        if p.changeable or p.name.startswith("views.") or p.name == "sync.max_backwards"
    }
    node = make_node(**overrides)
    for default, configured in (
        (ReferConfig(), parameters.refer_config(node)),
        (ViewBufferConfig(), parameters.buffer_config(node)),
    ):
        same = [name for name, value in leaves(configured).items() if value == leaves(default)[name]]
        assert not same, f"cannot be set: {same}"


def test_every_parameter_is_described_with_its_range(make_node):
    node = make_node()
    for parameter in parameters.PARAMETERS:
        descriptor = node.describe_parameter(parameter.name)
        assert len(descriptor.description) > 10
        number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
        assert number == bool(descriptor.floating_point_range or descriptor.integer_range), parameter.name


def test_changes_while_running(make_node):
    node = make_node()
    accepted = node.set_parameters(
        [Parameter("refer.max_view_age", value=1.5), Parameter("depth.patch_radius", value=5)]
    )
    assert all(result.successful for result in accepted)
    config = parameters.refer_config(node)
    assert (config.max_view_age, config.locate.patch_radius) == (1.5, 5)
    assert not node.set_parameters([Parameter("refer.max_view_age", value=-1.0)])[0].successful


def test_what_the_configured_node_uses_is_changed_before_it_is_configured(make_node):
    node, state = make_node(), {"unconfigured": False}
    node.add_on_set_parameters_callback(parameters.guard(lambda: state["unconfigured"]))
    (refused,) = node.set_parameters([Parameter("model.path", value="x")])
    assert not refused.successful and "model.path" in refused.reason and "clean up" in refused.reason
    assert node.set_parameters([Parameter("refer.max_view_age", value=1.5)])[0].successful
    state["unconfigured"] = True
    assert node.set_parameters([Parameter("model.path", value="x")])[0].successful
    (unknown,) = node.set_parameters([Parameter("pose.source", value="gps")])
    assert not unknown.successful and "tf, odometry, pose" in unknown.reason


def test_mistyped_names_are_said_with_what_was_meant(make_node):
    node = make_node(
        **{"pose.sorce": "odometry", "robot_radius": 0.3, "use_sim_time": False, "pose.source": "pose"},
        **{"qos_overrides./color/image_raw.subscription.depth": 5},
    )
    assert sorted(mistyped.unknown(node)) == [
        "no parameter 'pose.sorce'; did you mean 'pose.source'?",
        "no parameter 'robot_radius'",
    ]
    (unused,) = mistyped.unused_qos(node)
    assert unused.startswith("qos_overrides./color/image_raw.subscription.depth overrides no QoS")
    node.add_pre_set_parameters_callback(mistyped.suggest(node))
    with pytest.raises(ParameterNotDeclaredException, match=r"'targt_frame'; did you mean 'target_frame'\?"):
        node.set_parameters([Parameter("targt_frame", value="map")])
    assert node.set_parameters([Parameter("target_frame", value="map")])[0].successful


@pytest.mark.parametrize(
    "name, value, complaint",
    [
        ("color.transport", "theora", "raw, compressed"),
        ("pose.source", "gps", "tf, odometry, pose"),
        ("model.backend", "oracle", "reprojection"),
        ("sync.slop", 9.0, "out of range"),
        ("sync.slop", 1, "expecting type 'DOUBLE'"),
        ("inference.queue_size", 0, "out of range"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(make_node, name, value, complaint):
    with pytest.raises(ValueError, match=f"(?s){name}.*{complaint}"):
        make_node(**{name: value})
