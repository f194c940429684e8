"""What the launch file makes of its arguments; only where ROS's launch_ros is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="ROS's launch_ros is not installed here")

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, LogInfo, SetEnvironmentVariable
from launch.utilities import perform_substitutions
from launch_ros.actions import Node
from roboref_ros import parameters

PATH = Path(__file__).parents[1] / "launch" / "roboref.launch.py"


@pytest.fixture(scope="module")
def launch_file():
    spec = importlib.util.spec_from_file_location("roboref_launch", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_profile(monkeypatch, launch_file):
    for name in launch_file.PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def started(launch_file, **given: str) -> list:
    context = LaunchContext()
    for entity in launch_file.generate_launch_description().entities:
        if isinstance(entity, DeclareLaunchArgument):
            default = perform_substitutions(context, entity.default_value)
            context.launch_configurations[entity.name] = given.get(entity.name, default)
    assert given.keys() <= context.launch_configurations.keys()
    return launch_file.start(context, PATH.parents[1])


def remappings(actions: list) -> dict[str, str]:
    """Of the node, by plain names."""
    node = next(action for action in actions if isinstance(action, Node))
    context = LaunchContext()
    pairs = node._Node__remappings
    return {perform_substitutions(context, a): perform_substitutions(context, b) for a, b in pairs}


def test_every_preset_names_all_images_and_infos(launch_file):
    for name, topics in launch_file.CAMERAS.items():
        assert name == "none" or set(topics) == {"color_image", "color_info", "depth_image", "depth_info"}
        assert remappings(started(launch_file, camera=name)) == {launch_file.TOPICS[a]: b for a, b in topics.items()}


def test_single_topics_go_before_the_preset_and_empty_ones_do_not(launch_file):
    found = remappings(started(launch_file, camera="oak", depth_image="/mine", color_image="", odom="/wheels"))
    assert found["depth/image_raw"] == "/mine"
    assert found["color/image_raw"] == "/oak/rgb/image_raw"
    assert found["odom"] == "/wheels" and "pose" not in found


def test_tf_is_shared_unless_its_namespace_is_given(launch_file):
    assert not any(topic.startswith("/tf") for topic in remappings(started(launch_file, namespace="r2d2")))
    found = remappings(started(launch_file, namespace="r2d2", tf_namespace="/r2d2/"))
    assert (found["/tf"], found["/tf_static"]) == ("/r2d2/tf", "/r2d2/tf_static")


@pytest.mark.parametrize("variable", ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"])
def test_the_sites_own_profile_stays(launch_file, monkeypatch, variable):
    def sets_a_profile(**given) -> bool:
        return any(isinstance(action, SetEnvironmentVariable) for action in started(launch_file, **given))

    assert sets_a_profile()
    assert not sets_a_profile(fastdds_profile="")
    monkeypatch.setenv(variable, "/etc/fastdds.xml")
    assert not sets_a_profile()


@pytest.mark.parametrize("enclave", ["", "/roboref"])
def test_the_node_is_put_in_the_enclave_that_is_given(launch_file, enclave):
    node = next(action for action in started(launch_file, enclave=enclave) if isinstance(action, Node))
    given = [perform_substitutions(LaunchContext(), argument) for argument in node.cmd[4:6]]
    assert given == (["--enclave", enclave] if enclave else ["--ros-args", "-r"])


def test_mistyped_arguments_are_said(launch_file):
    context = LaunchContext()
    given = {"camra": "oak", "camera": "none", "camera_name": "front", "robot": "r2d2"}
    context.launch_configurations.update(given)
    (said,) = launch_file.mistyped(context, ["camera", "namespace"])
    assert (
        perform_substitutions(context, said.msg)
        == "camra:= is no argument of roboref.launch.py; did you mean camera:=?"
    )


def test_missing_rviz_is_said_and_the_node_starts(launch_file, monkeypatch):
    def missing(package: str) -> str:
        raise launch_file.PackageNotFoundError(package)

    monkeypatch.setattr(launch_file, "get_package_prefix", missing)
    actions = started(launch_file, rviz="true")
    assert any(isinstance(action, LogInfo) for action in actions)
    assert sum(isinstance(action, Node) for action in actions) == 1


@pytest.mark.parametrize(("name", "value"), [("camera", "webcam"), ("autostart", "maybe"), ("rviz", "2")])
def test_wrong_values_are_refused_with_what_is_expected(launch_file, name, value):
    with pytest.raises(ValueError, match=f"{name}:={value}: expected"):
        started(launch_file, **{name: value})


def test_a_missing_parameter_file_is_refused(launch_file, tmp_path):
    with pytest.raises(ValueError, match=r"params_file:=.*/none\.yaml: there is no such file"):
        started(launch_file, params_file=str(tmp_path / "none.yaml"))


def test_all_empty_is_the_default(launch_file):
    empty = dict.fromkeys(launch_file.TOPICS | dict.fromkeys(("namespace", "params_file", "log_level", "rviz")), "")
    assert sum(isinstance(action, Node) for action in started(launch_file, **empty)) == 1


def test_arguments_that_are_parameters_exist(launch_file):
    names = {parameter.name for parameter in parameters.PARAMETERS}
    assert {"autostart", "color.transport", "depth.transport", "pose.source"} <= names
