"""ros2 launch roboref_ros roboref.launch.py camera:=realsense (--show-args lists all)."""

import difflib
import os
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node

# Argument -> topic of the node that it remaps.
TOPICS = {
    "color_image": "color/image_raw",
    "color_info": "color/camera_info",
    "depth_image": "depth/image_raw",
    "depth_info": "depth/camera_info",
    "odom": "odom",
    "pose": "pose",
}

# The topics that drivers publish by default, depth registered to colour, and what their launch files need for that.
CAMERAS = {
    "none": {},
    # realsense2_camera, started with align_depth.enable:=true
    "realsense": {
        "color_image": "/camera/camera/color/image_raw",
        "color_info": "/camera/camera/color/camera_info",
        "depth_image": "/camera/camera/aligned_depth_to_color/image_raw",
        "depth_info": "/camera/camera/aligned_depth_to_color/camera_info",
    },
    # orbbec_camera, started with depth_registration:=true
    "orbbec": {
        "color_image": "/camera/color/image_raw",
        "color_info": "/camera/color/camera_info",
        "depth_image": "/camera/depth/image_raw",
        "depth_info": "/camera/depth/camera_info",
    },
    # zed_wrapper 5.1 or later, camera_name:=zed; its depth is always registered
    "zed": {
        "color_image": "/zed/zed_node/rgb/color/rect/image",
        "color_info": "/zed/zed_node/rgb/color/rect/camera_info",
        "depth_image": "/zed/zed_node/depth/depth_registered",
        "depth_info": "/zed/zed_node/depth/camera_info",
    },
    # depthai_ros_driver with the pipeline RGBD, whose stereo depth is aligned to colour
    "oak": {
        "color_image": "/oak/rgb/image_raw",
        "color_info": "/oak/rgb/camera_info",
        "depth_image": "/oak/stereo/image_raw",
        "depth_info": "/oak/stereo/camera_info",
    },
    # azure_kinect_ros_driver
    "kinect": {
        "color_image": "/rgb/image_raw",
        "color_info": "/rgb/camera_info",
        "depth_image": "/depth_to_rgb/image_raw",
        "depth_info": "/depth_to_rgb/camera_info",
    },
}

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def generate_launch_description() -> LaunchDescription:
    share = Path(get_package_share_directory("roboref_ros"))
    described = {
        "namespace": ("", "Namespace of node and relative topics."),
        "camera": ("none", f"Topics of a camera driver: {', '.join(CAMERAS)}. Single topics below go before it."),
        "color_transport": ("", "raw or compressed. Empty: as the parameters say."),
        "depth_transport": ("", "raw or compressedDepth. Empty: as the parameters say."),
        "pose_source": ("", "Where camera poses come from: tf, odometry or pose. Empty: as the parameters say."),
        "tf_namespace": ("", "Namespace of tf and tf_static. Empty: /tf, which all nodes of a robot share."),
        "params_file": (str(share / "config" / "roboref.yaml"), "Parameters of the node. Empty: its defaults."),
        "autostart": ("true", "Configure and activate at start. false: a lifecycle manager does it."),
        "use_sim_time": ("false", "Take the time from /clock (bags, simulation)."),
        "log_level": ("info", "debug, info, warn, error or fatal."),
        "fastdds_profile": (
            str(share / "config" / "fastdds.xml"),
            "Profile of Fast DDS with room for images; the camera's driver needs it too. Empty: none. "
            f"A profile that the site has set in {' or '.join(PROFILE_VARIABLES)} stays.",
        ),
        "enclave": ("", "Enclave of the node in a domain that SROS2 secures. Empty: none of its own."),
        "rviz": ("false", "Also start RViz, where it is installed."),
    }
    for name, topic in TOPICS.items():
        described[name] = ("", f"Topic to take for {topic}. Empty: as `camera` says, else {topic}.")
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in described.items()
    ]
    names = list(described)
    return LaunchDescription(
        [*arguments, OpaqueFunction(function=mistyped, args=[names]), OpaqueFunction(function=start, args=[share])]
    )


def mistyped(context: LaunchContext, names: list[str]) -> list:
    """A word on arguments that look like a misspelt one; others may be those of a file that includes this one."""
    likely = {given: difflib.get_close_matches(given, names, 1, 0.8) for given in context.launch_configurations}
    return [
        LogInfo(msg=f"{given}:= is no argument of roboref.launch.py; did you mean {near[0]}:=?")
        for given, near in likely.items()
        if near and given not in names
    ]


def start(context: LaunchContext, share: Path) -> list:
    """The node, and RViz where it is asked for, from the values of the launch arguments."""
    given = context.launch_configurations
    if given["camera"] not in CAMERAS:
        raise ValueError(f"camera:={given['camera']}: expected one of {', '.join(CAMERAS)}")
    remappings = []
    for name, topic in TOPICS.items():
        chosen = given[name] or CAMERAS[given["camera"]].get(name, "")
        if chosen:
            remappings.append((topic, chosen))
    if given["tf_namespace"]:
        remappings += [(f"/{tf}", f"/{given['tf_namespace'].strip('/')}/{tf}") for tf in ("tf", "tf_static")]
    # launch_ros warns of it only, and the node would start with its defaults.
    if given["params_file"] and not Path(given["params_file"]).is_file():
        raise ValueError(f"params_file:={given['params_file']}: there is no such file")
    simulated = {"use_sim_time": flag(given, "use_sim_time", "false")}
    parameters: list = [given["params_file"]] if given["params_file"] else []
    parameters.append({**simulated, "autostart": flag(given, "autostart", "true")})
    for argument in ("color_transport", "depth_transport", "pose_source"):
        if given[argument]:
            parameters.append({argument.replace("_", "."): given[argument]})
    actions: list = []
    set_already = [name for name in PROFILE_VARIABLES if os.environ.get(name)]
    if given["fastdds_profile"] and not set_already:
        actions.append(SetEnvironmentVariable(PROFILE_VARIABLES[0], given["fastdds_profile"]))
    enclave = ["--enclave", given["enclave"]] if given["enclave"] else []
    actions.append(
        Node(
            package="roboref_ros",
            executable="roboref_node",
            name="roboref",
            namespace=given["namespace"],
            output="screen",
            parameters=parameters,
            remappings=remappings,
            arguments=["--ros-args", "--log-level", given["log_level"] or "info", *enclave],
        )
    )
    if flag(given, "rviz", "false"):
        actions.append(rviz(given["namespace"], share, [simulated], remappings))
    return actions


def rviz(namespace: str, share: Path, parameters: list, remappings: list) -> LogInfo | Node:
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return LogInfo(msg="rviz:=true, but rviz2 is not installed here: apt install ros-jazzy-rviz2")
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=namespace,
        output="log",
        parameters=parameters,
        remappings=[pair for pair in remappings if pair[0].startswith("/tf")],
        arguments=["-d", str(share / "rviz" / "roboref.rviz")],
    )


def flag(given: dict, name: str, default: str) -> bool:
    value = (given[name] or default).lower()
    if value not in ("true", "false", "1", "0"):
        raise ValueError(f"{name}:={given[name]}: expected true or false")
    return value in ("true", "1")
