# The node on ROS's own packages: docker build -f docker/robot.Dockerfile -t roboref .
FROM ros:jazzy-ros-base

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /roboref/ros2_ws

# Dependencies first: they change less often than the sources.
COPY ros2_ws/src/roboref_msgs/package.xml src/roboref_msgs/
COPY ros2_ws/src/roboref_core/package.xml src/roboref_core/
COPY ros2_ws/src/roboref_ros/package.xml src/roboref_ros/
RUN apt-get update \
    && rosdep update --rosdistro jazzy \
    && rosdep install --from-paths src --ignore-src --rosdistro jazzy --default-yes \
    && rm -rf /var/lib/apt/lists/*

COPY ros2_ws/src src
RUN source /opt/ros/jazzy/setup.bash && colcon build

ENV FASTRTPS_DEFAULT_PROFILES_FILE=/roboref/ros2_ws/install/roboref_ros/share/roboref_ros/config/fastdds.xml
# The image's own entry point sources /opt/ros/jazzy only.
ENTRYPOINT ["/bin/bash", "-c", "source install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "roboref_ros", "roboref.launch.py"]
