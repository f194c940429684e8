"""`roboref sim`: indoor scenes, and bags of them or of real sequences."""

from __future__ import annotations

import importlib
import sys

# Name -> (module with main(argv), one line of help). A module is imported when its command is called: only play needs
# ROS.
COMMANDS = {
    "scene": ("sim.generate", "make a furnished room in ScanNet's formats"),
    "record": ("sim.recorder_cli", "record a posed RGB-D sequence as a rosbag2"),
    "play": ("sim.player_cli", "play a rosbag2 with /clock, in real time or view by view"),
}


def usage() -> str:
    lines = [f"  {name:8}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: roboref sim COMMAND ...", "", *lines, "", "roboref sim COMMAND --help says more."])


def main(argv: list[str] | None = None) -> int | None:
    """Run one command. Returns its exit status (None: success)."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        print(f"roboref sim: no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[name][0]).main(rest)
