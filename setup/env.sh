# Environment of everything that runs from the wheels: `source setup/env.sh`, in bash, from any directory.
#
# .venv plays the part of /opt/ros/jazzy; ros2_ws/install is the overlay on it. On a machine with its own
# ROS, source that and ros2_ws/install/setup.bash instead, and never this file.

if [ -z "${BASH_VERSION:-}" ]; then
    echo "setup/env.sh: source it from bash" >&2
    return 1
fi

_roboref_env() {
    local root venv site libs entry
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)" || return
    venv="$root/.venv"
    if [ ! -x "$venv/bin/python" ]; then
        echo "setup/env.sh: no environment in $venv: run 'make setup' first" >&2
        return 1
    fi
    site="$(echo "$venv"/lib/python3.*/site-packages)"

    # What the wheels' start-up hook would set by running every Python twice, in random order; the guard stops it.
    libs="$venv/lib"
    for entry in "$site"/ros_*.libs; do libs="$libs:$entry"; done
    case ":${LD_LIBRARY_PATH:-}:" in
        *":$libs:"*) ;;
        *) export LD_LIBRARY_PATH="$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" ;;
    esac
    export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1

    # Set, not extended: packages of another ROS or Python on the same machine must not shine through.
    export AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv"
    unset PYTHONPATH COLCON_PREFIX_PATH
    export PATH="$venv/bin:${PATH//"$venv/bin:"/}"

    export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
    export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
    # Default Fast DDS loses raw images; see the file.
    export FASTRTPS_DEFAULT_PROFILES_FILE="$root/ros2_ws/src/roboref_ros/config/fastdds.xml"

    # The workspace, once built. Its scripts read unset variables.
    if [ -f "$root/ros2_ws/install/local_setup.bash" ]; then
        case $- in *u*) set +u; source "$root/ros2_ws/install/local_setup.bash"; set -u ;;
            *) source "$root/ros2_ws/install/local_setup.bash" ;;
        esac
        # `ros2 run` is not among the wheels: roboref_node and go_to by their names.
        entry="$root/ros2_ws/install/roboref_ros/lib/roboref_ros"
        export PATH="$entry:${PATH//"$entry:"/}"
    fi
}

_roboref_env
