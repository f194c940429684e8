"""One style for every command of `roboref`: tables of names, settings that are called, one meaning of exit statuses."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class ExitStatus(IntEnum):
    """What a command's exit status says to a script."""

    DONE = 0
    BAD = 1
    """It ran to its end, and what it looked at is bad: scans that failed, samples with defects."""
    USAGE = 2
    """An option, a file or a package is wrong or missing; the message says which and what was expected."""
    UNFORESEEN = 70
    """A fault of the program; the traceback is on standard error."""
    STOPPED = 75
    """Stopped before its end (a signal, a full disk); the same command goes on where it was."""


class Stopped(Exception):
    """Work that cannot go on now and does when the same command runs again. The text says why."""


@dataclass(frozen=True)
class CommandTable:
    """The ``main`` of a program that consists of commands.

    Attributes:
        program: how it is called, for example "roboref sim".
        commands: name -> ("module:name" of what runs it, one line of help). It is imported only when it is called: a
            dataclass whose fields are the options (see ``run``), or a function of the remaining arguments, such as
            another table. Without a name, the module's ``main``.
        version: what ``--version`` prints, of the program itself, which also has ``--completion``; None: neither.
        example: a whole line that works, for the help.
        default: "module:name" of a dataclass that runs where options come first; "": the table is printed then.
    """

    program: str
    commands: Mapping[str, tuple[str, str]]
    version: str | None = None
    example: str = ""
    default: str = ""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run one command. Returns its exit status; without a name, or for help, prints the table."""
        with _readers_may_leave():
            return self._call(sys.argv[1:] if argv is None else argv)
        return ExitStatus.DONE

    def _call(self, argv: Sequence[str]) -> int:
        if self.default and (not argv or argv[0].startswith("-")):
            return run(load(self.default), self.program, argv)
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(self.usage())
            return ExitStatus.DONE
        if argv[0] == "--version" and self.version is not None:
            print(self.version)
            return ExitStatus.DONE
        if argv[0] == "--completion" and self.version is not None:
            from roboref_core.completion import script

            print(script(self))
            return ExitStatus.DONE
        name, *rest = argv
        if name not in self.commands:
            print(f"{self.program}: no command {name!r}{did_you_mean(name, self.commands)}", file=sys.stderr)
            print(f"\n{self.usage()}", file=sys.stderr)
            return ExitStatus.USAGE
        program = f"{self.program} {name}"
        try:
            command = load(self.commands[name][0])
        except ModuleNotFoundError as error:
            print(f"{program}: {_remedy(error)}", file=sys.stderr)
            return ExitStatus.USAGE
        return run(command, program, rest) if isinstance(command, type) else int(command(rest) or 0)

    def usage(self) -> str:
        width = max(map(len, self.commands))
        lines = [f"  {name:{width}}  {text}" for name, (_, text) in self.commands.items()]
        more = [f"{self.program} COMMAND --help says more." + (" For example:" if self.example else "")]
        more += [f"\n  {self.example}"] if self.example else []
        return "\n".join([f"usage: {self.program} COMMAND ...", "", *lines, "", *more])


def load(where: str) -> Any:
    """What "module:name" of a table names, imported; "module" alone: its ``main``."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name or "main")


def run(command: type[Callable[[], int | None]], program: str, argv: Sequence[str] | None = None) -> int:
    """Parse the options into ``command``, a dataclass, call it, and turn what happens into an exit status.

    Args:
        command: its docstring is the help, its fields are the options, ``__call__`` works. It raises ValueError,
            OSError or ImportError for what its user can mend, and Stopped.
        program: how it is called, for example "roboref sim play".
        argv: None: those of the process.
    """
    try:
        with _readers_may_leave():
            # Options that contradict each other raise ValueError here.
            settings: Any = _parsed(command, program, sys.argv[1:] if argv is None else argv)
            return int(settings() or 0)
        return ExitStatus.DONE
    except KeyboardInterrupt:
        return _end(program, "stopped; the same command goes on", ExitStatus.STOPPED)
    except Stopped as error:
        return _end(program, str(error), ExitStatus.STOPPED)
    except ModuleNotFoundError as error:
        return _end(program, _remedy(error), ExitStatus.USAGE)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("ROBOREF_DEBUG"):
            traceback.print_exc()
        return _end(program, str(error), ExitStatus.USAGE)
    except Exception as error:
        if text := log_folder_remedy(error):
            return _end(program, text, ExitStatus.USAGE)
        traceback.print_exc()
        return _end(program, "this is a fault of the program; please report the lines above", ExitStatus.UNFORESEEN)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'WORD'?" for the known word that is most like a mistyped one; "" if none is."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def log_folder_remedy(error: Exception) -> str:
    """What to do where ROS could not make its log folder, from the error of ``rclpy.init``; "" for other errors."""
    found = re.search(r"Failed to create log directory '([^']*)'", str(error))
    if found is None:
        return ""
    return f"the log folder {found[1]} cannot be made: set ROS_LOG_DIR (or HOME) to a folder that can be written"


def _parsed(command: type, program: str, argv: Sequence[str]) -> Any:
    """The settings that the options say. Ends the process as tyro does: after a help, or with what is wrong."""
    # Only here: the library itself needs no command line.
    import tyro

    try:
        return tyro.cli(command, args=argv, prog=program)
    except SystemExit as end:
        if end.code:
            from roboref_core.completion import options

            known = options(command)
            for given in argv:
                option = given.partition("=")[0].replace("_", "-")
                if option.startswith("--") and option not in known and (hint := did_you_mean(option, known)):
                    print(f"{program}: no option {option!r}{hint}", file=sys.stderr)
        raise


@contextmanager
def _readers_may_leave() -> Iterator[None]:
    """End the block quietly when the reader of a pipe has gone (`| head`); what is buffered has nowhere to go."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(program: str, message: str, status: ExitStatus) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return status


def _remedy(error: ModuleNotFoundError) -> str:
    """What to do about a package that is missing; raises the error again if it is one of ours."""
    package = (error.name or "").partition(".")[0]
    if package in ("offline", "sim", "page", "roboref_core"):
        raise error
    if package in ("rclpy", "roboref_msgs", "roboref_ros"):
        return f"{package} is not on the path: run `make setup`, then `source setup/env.sh`"
    return f"{package} is not installed: pip install 'roboref_core[models,serve]', or `make setup-full` in a checkout"
