"""RoboRef as a ROS 2 node: topics in, answers out. All thinking is in roboref_core."""
