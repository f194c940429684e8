"""Completion in a real bash, and helps whose reader leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from roboref_core.command_line import CommandTable
from roboref_core.completion import script

pytest.importorskip("tyro")

ROOT = Path(__file__).parents[4]


@dataclass
class Work:
    """Works."""

    hours: int = 8
    how_well: str = ""

    def __call__(self) -> None:
        pass


INNER = CommandTable("tool group", {"work": (f"{__name__}:Work", "works")})
TABLE = CommandTable("tool", {"group": (f"{__name__}:INNER", "commands"), "work": (f"{__name__}:Work", "works")}, "1")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gr", "group"),
        ("--v", "--version"),
        ("group w", "work"),
        ("group work --h", "--help --hours --how-well"),
        ("work --how", "--how-well"),
        ("work --hours 3 --how", "--how-well"),
        ("nonsense x", ""),
    ],
)
def test_bash_completes(typed, offered, tmp_path):
    (tmp_path / "completion.sh").write_text(script(TABLE))
    words = ["tool", *typed.split(" ")]
    asks = f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _tool_complete; echo "${{COMPREPLY[*]}}"'
    said = subprocess.run(
        ["bash", "-c", f"source {tmp_path}/completion.sh; {asks}"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == offered and said.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["data", "--help"], ["sim", "play", "--help"]])
def test_a_help_whose_reader_leaves_ends_without_a_word(arguments):
    command = [sys.executable, "-m", "offline.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
