"""`roboref sim`: indoor scenes, and bags of them or of real sequences."""

from __future__ import annotations

from roboref_core.command_line import CommandTable

COMMANDS = {
    "scene": ("sim.rooms.generate:GenerateConfig", "make a furnished room in ScanNet's formats"),
    "record": ("offline.commands.record:Record", "record a posed RGB-D sequence as a rosbag2"),
    "live": ("offline.commands.live_room:LiveRoom", "a robot in a room, the node and the page, in one command"),
    "robot": ("sim.robot.command:RobotCommand", "a robot that drives through a simulated room, as a ROS 2 node"),
    "play": ("sim.bags.player_cli:Play", "play a rosbag2 with /clock, in real time or view by view"),
    "reindex": ("sim.bags.reindex:Reindex", "write the metadata.yaml that a killed recorder did not write"),
    "convert": ("sim.bags.convert:Convert", "make a rosbag2 of a ROS 1 bag, such as TUM RGB-D's or a RealSense's"),
}

main = CommandTable("roboref sim", COMMANDS, example="roboref sim scene --out rooms")
