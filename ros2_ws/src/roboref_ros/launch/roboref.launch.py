"""ros2 launch roboref_ros roboref.launch.py color_image:=/camera/color/image_raw ... (--show-args lists all)."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

# Argument -> topic of the node that it remaps.
TOPICS = {
    "color_image": "color/image_raw",
    "color_info": "color/camera_info",
    "depth_image": "depth/image_raw",
    "depth_info": "depth/camera_info",
    "odom": "odom",
    "pose": "pose",
}


def generate_launch_description() -> LaunchDescription:
    share = Path(get_package_share_directory("roboref_ros"))
    arguments = [
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of node and relative topics."),
        DeclareLaunchArgument(
            "params_file", default_value=str(share / "config" / "roboref.yaml"), description="Parameters of the node."
        ),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock (bags)."),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
        DeclareLaunchArgument(
            "fastdds_profile",
            default_value=str(share / "config" / "fastdds.xml"),
            description="Profile of Fast DDS with room for images; the camera's driver needs it too. Empty: none.",
        ),
        DeclareLaunchArgument("rviz", default_value="false", description="Also start RViz."),
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value=topic, description=f"Topic to take for {topic}.")
        for name, topic in TOPICS.items()
    ]
    namespace, profile = LaunchConfiguration("namespace"), LaunchConfiguration("fastdds_profile")
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    # One TF tree per robot where there is a namespace, as Nav2 has it.
    tf = [("/tf", "tf"), ("/tf_static", "tf_static")]
    return LaunchDescription(
        [
            *arguments,
            SetEnvironmentVariable(
                "FASTRTPS_DEFAULT_PROFILES_FILE", profile, condition=IfCondition(NotEqualsSubstitution(profile, ""))
            ),
            Node(
                package="roboref_ros",
                executable="roboref_node",
                name="roboref",
                namespace=namespace,
                output="screen",
                parameters=[LaunchConfiguration("params_file"), {"use_sim_time": use_sim_time}],
                remappings=tf + [(topic, LaunchConfiguration(name)) for name, topic in TOPICS.items()],
                arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=namespace,
                output="log",
                parameters=[{"use_sim_time": use_sim_time}],
                remappings=tf,
                arguments=["-d", str(share / "rviz" / "roboref.rviz")],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
