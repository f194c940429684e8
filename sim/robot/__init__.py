"""A robot that drives through a simulated room: physics, navigator and changes of the room without ROS, and a node."""
