"""`roboref sim`: indoor scenes, and bags of them or of real sequences."""

from __future__ import annotations

from roboref_core.command_table import CommandTable

COMMANDS = {
    "scene": ("sim.generate", "make a furnished room in ScanNet's formats"),
    "record": ("sim.recorder_cli", "record a posed RGB-D sequence as a rosbag2"),
    "play": ("sim.player_cli", "play a rosbag2 with /clock, in real time or view by view"),
}

main = CommandTable("roboref sim", COMMANDS)
