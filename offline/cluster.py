"""Slurm: batch scripts that run what they name and nothing else, and the few commands that are asked about jobs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_TIMEOUT = 60.0
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,\-\[\]]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")


def word(text: str | Path) -> str:
    """One word of a shell command, quoted. Raises ValueError for control characters, line ends among them."""
    return shlex.quote(_one_line(str(text)))


def words(*texts: str | Path) -> str:
    """A shell command of these words, each quoted."""
    return " ".join(word(text) for text in texts)


def directives(options: Mapping[str, object]) -> str:
    """Lines of ``#SBATCH`` options: name -> value; None leaves an option out, True writes it without a value.

    Raises ValueError for what could end the line or its quotation marks.
    """
    lines = []
    for name, value in options.items():
        if value is None:
            continue
        if not re.fullmatch(r"[a-z][a-z-]*", name):
            raise ValueError(f"expected an option of sbatch such as mem, found {name!r}")
        lines.append(f"#SBATCH --{name}" + ("" if value is True else f"={_value(name, str(value))}"))
    return "\n".join(lines)


def option_of(text: str) -> tuple[str, object]:
    """An option as it is written by hand, "mem=64G" or "exclusive", for ``directives``."""
    name, equals, value = text.partition("=")
    return name.strip().removeprefix("--"), value if equals else True


def submit(script: Path) -> str:
    """The job's id. Raises ValueError with what sbatch says."""
    return command("sbatch", "--parsable", str(script)).split(";")[0]


def queue() -> dict[str, str]:
    """Jobs in the queue: id -> a line on each. A job that is long gone is unknown to squeue."""
    lines = command("squeue", "--noheader", "--format=%i %j %T %M of %l on %R").splitlines()
    return {line.split()[0]: line for line in lines if line.strip()}


def is_queued(job: str) -> bool:
    """Is a job, or a task of an array ("12_3"), waiting or running? True while Slurm does not answer."""
    try:
        found = subprocess.run(
            ["squeue", "--noheader", "--jobs", job], capture_output=True, text=True, check=False, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return True
    if found.returncode and "Invalid job id" not in found.stderr:
        return True
    return bool(found.stdout.strip())


def cancel(job: str) -> None:
    command("scancel", job)


def command(*parts: str) -> str:
    """What one of Slurm's commands prints. Raises ValueError if it is not installed, fails, or does not answer."""
    if shutil.which(parts[0]) is None:
        raise ValueError(f"{parts[0]} is not installed here: this machine does not belong to a Slurm cluster")
    try:
        done = subprocess.run(parts, capture_output=True, text=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{parts[0]}: no answer within {_TIMEOUT:.0f} s") from error
    if done.returncode:
        raise ValueError(f"{parts[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def _value(name: str, value: str) -> str:
    if _PLAIN.fullmatch(_one_line(value)):
        return value
    if '"' in value or "\\" in value:
        raise ValueError(f"option {name}: quotation marks and backslashes cannot go to sbatch, found {value!r}")
    return f'"{value}"'


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError(f"a name with line ends or control characters cannot go into a batch script: {text!r}")
    return text
