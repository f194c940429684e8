"""`roboref sim`: indoor scenes, and bags of them or of real sequences."""

from __future__ import annotations

from roboref_core.command_line import CommandTable

COMMANDS = {
    "scene": ("sim.rooms.generate", "make a furnished room in ScanNet's formats"),
    "record": ("offline.commands.record", "record a posed RGB-D sequence as a rosbag2"),
    "play": ("sim.bags.player_cli", "play a rosbag2 with /clock, in real time or view by view"),
}

main = CommandTable("roboref sim", COMMANDS)
