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
