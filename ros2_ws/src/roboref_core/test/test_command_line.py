"""Commands: names, exit statuses, and what is said where something is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from roboref_core.command_line import CommandTable, ExitStatus, Stopped, run

pytest.importorskip("tyro")

RAISES = {
    "nothing": None,
    "bad": ValueError("a.json: expected a list, found 3"),
    "stopped": Stopped("the disk is full; free some space"),
    "interrupted": KeyboardInterrupt(),
    "fault": RuntimeError("how could this be"),
    "package": ModuleNotFoundError("No module named 'much'", name="much"),
}


@dataclass
class Work:
    """Works."""

    how: str = "nothing"

    def __call__(self) -> int:
        if RAISES[self.how]:
            raise RAISES[self.how]
        return 0


@pytest.mark.parametrize(
    ("how", "status", "text"),
    [
        ("nothing", ExitStatus.DONE, ""),
        ("bad", ExitStatus.USAGE, "roboref work: a.json: expected a list, found 3\n"),
        ("stopped", ExitStatus.STOPPED, "roboref work: the disk is full; free some space\n"),
        ("interrupted", ExitStatus.STOPPED, "roboref work: stopped; the same command goes on\n"),
        ("package", ExitStatus.USAGE, "much is not installed"),
    ],
)
def test_exit_status_and_one_line(how, status, text, capsys):
    assert run(Work, "roboref work", ["--how", how]) == status
    error = capsys.readouterr().err
    assert text in error and "Traceback" not in error


def test_a_fault_of_the_program_leaves_its_traceback(capsys):
    assert run(Work, "roboref work", ["--how", "fault"]) == ExitStatus.UNFORESEEN
    assert "how could this be" in (error := capsys.readouterr().err) and "Traceback" in error


def test_a_table_calls_settings_and_tables(capsys):
    table = CommandTable("roboref", {"work": (f"{__name__}:Work", "works")}, "roboref 1.2.3")
    assert table(["--version"]) == 0
    assert capsys.readouterr().out == "roboref 1.2.3\n"
    assert table(["wrok"]) == ExitStatus.USAGE
    assert "did you mean 'work'?" in capsys.readouterr().err


@dataclass
class Fallback:
    """Runs where no name comes first."""

    scenes: int = 1

    def __call__(self) -> None:
        print(f"{self.scenes} scenes")


def test_a_table_with_a_default(capsys):
    table = CommandTable("roboref", {"work": (f"{__name__}:Work", "works")}, default=f"{__name__}:Fallback")
    assert table(["--scenes", "3"]) == 0 and capsys.readouterr().out == "3 scenes\n"
    assert table(["work"]) == 0
    assert table(["wrk"]) == ExitStatus.USAGE
    assert "did you mean 'work'?" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["--scnes", "--scnes=3", "--sceness"])
def test_a_mistyped_option_gets_a_suggestion(given, capsys):
    with pytest.raises(SystemExit) as end:
        run(Fallback, "roboref work", [given])
    assert end.value.code == ExitStatus.USAGE
    assert f"no option '{given.partition('=')[0]}'; did you mean '--scenes'?" in capsys.readouterr().err


def test_a_log_folder_that_cannot_be_made_is_the_users_to_mend(monkeypatch, capsys):
    text = "failed to initialize logging: Failed to create log directory '/proc/none/.ros/log': 2, at x.cpp:154"
    monkeypatch.setitem(RAISES, "log", RuntimeError(text))
    assert run(Work, "roboref work", ["--how", "log"]) == ExitStatus.USAGE
    said = capsys.readouterr().err
    assert "the log folder /proc/none/.ros/log cannot be made: set ROS_LOG_DIR" in said and "Traceback" not in said
