"""How the programs of this package begin: what their arguments lack is said in a line, and nothing starts."""

from __future__ import annotations

import re
import sys

import rclpy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from roboref_core.command_line import log_folder_remedy

# The words of rcl and rmw about what was given to them, and how it is written.
_HINTS = {
    "parameter override rule": "; a parameter is written -p NAME:=VALUE",
    "remap rule": "; a remapping is written -r FROM:=TO, and names have letters, digits, _ and / only",
    "expecting type 'DOUBLE'": " (write 1.0, not 1)",
    "log level": "; the levels are debug, info, warn, error and fatal",
    "Cannot have a value before ros__parameters": "; a parameter file begins with NODE: or /**:, then ros__parameters:",
}
_OF_ARGUMENTS = ("Couldn't parse", "SECURITY ERROR", "security libraries", *_HINTS)


def words(program: str, usage: str, argv: list[str] | None = None) -> list[str] | int:
    """The arguments that are not ROS's; or the exit status after a help, or after wrong ones.

    Args:
        program: how messages call it.
        usage: the help.
        argv: with the program's name; None: those of the process.
    """
    try:
        given = remove_ros_args(sys.argv if argv is None else argv)[1:]
    except RuntimeError as error:
        if not (text := complaint(error)):
            raise
        print(f"{program}: {text}", file=sys.stderr)
        return 2
    if "-h" in given or "--help" in given:
        print(usage, end="")
        return 0
    option = next((word for word in given if word.startswith("-")), None)
    if option is None:
        return list(given)
    after = "; options of ROS follow --ros-args" if option in ("-p", "-r", "--params-file", "--log-level") else ""
    print(f"{program}: no option {option!r}{after}\n{usage}", end="", file=sys.stderr)
    return 2


def initialise(argv: list[str] | None = None) -> str:
    """rclpy.init without signal handlers. Returns what is wrong with the arguments or the environment; "": nothing."""
    try:
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        if text := complaint(error):
            return text
        raise
    return ""


def complaint(error: Exception) -> str:
    """An error of rclpy about arguments, security files or the log folder, for a person; "" for other errors."""
    if text := log_folder_remedy(error):
        return text
    text = " ".join(re.sub(r",? at /\S+:\d+", "", str(error)).split())
    text = text.removeprefix("failed to initialize rcl: ").removeprefix("Failed to parse ROS arguments: ")
    if not any(words in text for words in _OF_ARGUMENTS):
        return ""
    return text + next((hint for words, hint in _HINTS.items() if words in text), "")
