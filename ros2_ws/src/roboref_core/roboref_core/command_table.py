"""Commands by name, each a module that is imported only when it is called: few need ROS, and few need PyTorch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CommandTable:
    """The ``main`` of a program that consists of commands.

    Attributes:
        program: how it is called, for example "roboref sim".
        commands: name -> (module with ``main(argv)``, one line of help).
    """

    program: str
    commands: Mapping[str, tuple[str, str]]

    def __call__(self, argv: Sequence[str] | None = None) -> int | None:
        """Run one command. Returns its exit status (None: success), 2 if there is none of that name, 1 if it lacks a
        package; without a name, or for help, prints the table."""
        argv = sys.argv[1:] if argv is None else argv
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(self.usage())
            return 0
        name, *rest = argv
        if name not in self.commands:
            print(f"{self.program}: no command {name!r}\n\n{self.usage()}", file=sys.stderr)
            return 2
        try:
            module = importlib.import_module(self.commands[name][0])
        except ModuleNotFoundError as error:
            print(f"{self.program} {name}: {_remedy(error)}", file=sys.stderr)
            return 1
        return module.main(rest)

    def usage(self) -> str:
        width = max(map(len, self.commands))
        lines = [f"  {name:{width}}  {text}" for name, (_, text) in self.commands.items()]
        more = f"{self.program} COMMAND --help says more."
        return "\n".join([f"usage: {self.program} COMMAND ...", "", *lines, "", more])


def _remedy(error: ModuleNotFoundError) -> str:
    """What to do about a package that is missing; raises the error again if it is one of ours."""
    package = (error.name or "").partition(".")[0]
    if package in ("offline", "sim", "roboref_core"):
        raise error
    if package in ("rclpy", "roboref_msgs", "roboref_ros"):
        return f"{package} is not on the path: run `make setup`, then `source setup/env.sh`"
    return f"{package} is not installed: run `make setup-full`, or pip install -r setup/requirements-full.txt"
