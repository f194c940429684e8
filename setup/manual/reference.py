"""The reference part of the site, written from the code at build time: page name -> Markdown."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failures import failures

ROOT = Path(__file__).resolve().parents[2]
INTERFACES = ROOT / "ros2_ws" / "src" / "roboref_msgs"


def pages() -> dict[str, str]:
    """Every generated page, by its path below docs/."""
    return {
        "reference/parameters.md": parameters(),
        "reference/interfaces.md": interfaces(),
        "reference/commands.md": commands(),
        "reference/plan.md": plan(),
        "reference/formats.md": formats(),
        "reference/errors.md": errors(),
    }


def parameters() -> str:
    """The node's parameters with default, what is allowed, and description."""
    from roboref_ros.parameters import PARAMETERS

    lines = [
        "# Parameters of the node\n",
        "Set them with `-p name:=value`, in a YAML file, or while the node runs with `ros2 param set`. *Changeable* "
        "ones are read again for every question; the others when the node is configured or activated, and may be "
        "changed while it is unconfigured.\n",
        "| name | default | allowed | changeable | what it is |",
        "|---|---|---|---|---|",
    ]
    for each in PARAMETERS:
        allowed = ""
        if each.allowed and isinstance(each.default, str):
            allowed = ", ".join(f"`{word}`" for word in each.allowed)
        elif each.allowed:
            allowed = f"{each.allowed[0]:g} to {each.allowed[1]:g}"
        default = json.dumps(each.default) if isinstance(each.default, str | list | bool) else f"{each.default:g}"
        changeable = "yes" if each.changeable else ""
        lines.append(f"| `{each.name}` | `{default}` | {allowed} | {changeable} | {_cell(each.description)} |")
    return "\n".join(lines) + "\n"


def interfaces() -> str:
    """The messages, services and the action, as they are defined."""
    lines = [
        "# Messages, services, action\n",
        "Package `roboref_msgs`. Each definition is the file itself; units and frames stand beside the fields.\n",
    ]
    for kind, title in (("srv", "Services"), ("action", "Action"), ("msg", "Messages")):
        lines.append(f"## {title}\n")
        for file in sorted((INTERFACES / kind).glob(f"*.{kind}")):
            lines.append(f"### {file.stem}\n\n```text\n{file.read_text(encoding='utf-8').strip()}\n```\n")
    return "\n".join(lines)


@dataclass(frozen=True)
class Command:
    """A command of a table: how it is called, its line in the table, and its whole help."""

    program: str
    summary: str
    help: str


@functools.cache
def every_command() -> tuple[Command, ...]:
    """All commands of `roboref`, those of its groups too, in the order of the tables."""
    from offline.cli import main

    return tuple(_of_table(main))


def _of_table(table: Any) -> Iterator[Command]:
    from roboref_core.command_line import CommandTable, load

    for name, (where, summary) in table.commands.items():
        command = load(where)
        table_of_its_own = isinstance(command, CommandTable)
        if not table_of_its_own or command.default:
            yield Command(f"{table.program} {name}", summary, help_text(table, name))
        if table_of_its_own:
            yield from _of_table(command)


def help_text(table: Any, *names: str) -> str:
    """What ``--help`` of a command, or of a table, prints at 100 columns and without colours."""
    shown = io.StringIO()
    with _terminal(COLUMNS="100", NO_COLOR="1"), contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        table([*names, "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).strip()


@contextlib.contextmanager
def _terminal(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def commands() -> str:
    """Every command with its help."""
    found = every_command()
    lines = [
        "# Commands\n",
        "`roboref --help` lists the commands, `roboref --completion` prints completion for bash and zsh. Exit statuses "
        "are those of [errors](errors.md#exit-statuses).\n",
        "| command | what it does |",
        "|---|---|",
        *(f"| [`{each.program}`](#{each.program.replace(' ', '-')}) | {_cell(each.summary)} |" for each in found),
        "",
    ]
    lines += [f"## {each.program}\n\n```text\n{each.help}\n```\n" for each in found]
    return "\n".join(lines)


def plan() -> str:
    """The keys of a training plan."""
    from offline.train.plan import Evaluation, Lora, Plan, Reinforcement, Rewards, Stage, preset_names

    lines = [
        "# Keys of a training plan\n",
        "A plan is a YAML file that `roboref train run` takes. `preset` names a file whose keys the plan's own keys "
        f"replace: {', '.join(f'`{name}`' for name in preset_names())} (`roboref train preset NAME` prints one). "
        "Relative paths are relative to the plan's folder. Unknown keys are refused.\n",
    ]
    titles = {
        Plan: "The plan",
        Stage: "stages: each",
        Lora: "lora",
        Reinforcement: "rft",
        Rewards: "rft.rewards",
        Evaluation: "evaluation",
    }
    for model, title in titles.items():
        text, described = documented(model)
        lines += [
            f"## {title}\n",
            *([text, ""] if text else []),
            "| key | type | default | what it is |",
            "|---|---|---|---|",
        ]
        for name, each in model.model_fields.items():
            kind = getattr(each.annotation, "__name__", "") if isinstance(each.annotation, type) else each.annotation
            kind = re.sub(r"\b(?:typing|pathlib|offline\.train\.plan)\.|NoneType", "", str(kind) or "")
            default = "required" if each.is_required() else f"`{_plain(each.default)}`"
            limits = ", ".join(filter(None, map(_limit, each.metadata)))
            what = " ".join(filter(None, (described.get(name, ""), f"({limits})" if limits else "")))
            lines.append(f"| `{name}` | `{_cell(kind)}` | {default} | {_cell(what)} |")
        lines.append("")
    return "\n".join(lines)


def formats() -> str:
    """The files that programs exchange, from the docstrings of what reads and writes them."""
    from offline.data_engine import five_frames
    from offline.eval.records import predictions, replays, samples
    from offline.eval.replay.scoring import table
    from offline.eval.scoring.metrics import FIGURES

    lines = ["# File formats\n"]
    for title, module, kinds in (
        ("five_frames and x3 trees", five_frames, (five_frames.ViewFiles,)),
        ("Samples (task files)", samples, (samples.Sample,)),
        ("Predictions", predictions, ()),
        ("Answers of a replay (questions.jsonl)", replays, (replays.Record, replays.Question, replays.Truth)),
    ):
        lines += [f"## {title}\n", _markdown(module.__doc__), ""]
        for kind in kinds:
            text, described = documented(kind)
            lines += [f"### {kind.__name__}\n", text, "", "| field | what it is |", "|---|---|"]
            lines += [f"| `{name}` | {_cell(what)} |" for name, what in described.items()] + [""]
    lines += [
        "## Reports\n",
        "`roboref eval report` and `roboref eval replay` write one HTML page that needs no other file, and beside it "
        "the same figures as JSON. Shares are `{value, hits, total, low, high}`, low and high the ends of a 95 % "
        "interval.\n",
        "### Figures of `roboref eval score`\n",
        "| key | title |",
        "|---|---|",
        *(f"| `{key}` | {_cell(figure.title)} |" for key, figure in FIGURES.items()),
        "",
        "### Figures of a replay\n",
        "| figure | what it says |",
        "|---|---|",
        *(f"| {_cell(figure.name)} | {_cell(figure.meaning)} |" for figure in table.FIGURES if figure.meaning),
        "",
    ]
    return "\n".join(lines)


def errors() -> str:
    """Codes of answers with the messages that go with them, and exit statuses of commands."""
    from roboref_core.command_line import ExitStatus
    from roboref_core.errors import ErrorCode

    messages = failures()
    lines = [
        "# Errors\n",
        "## Error codes\n",
        "An answer with `status` ERROR has one of these in `error_code`, and in `error_msg` what was expected and "
        "what was found. `{...}` stands for what is filled in. What to do: "
        "[troubleshooting](../howto/troubleshooting.md).\n",
        "| code | name | messages |",
        "|---|---|---|",
    ]
    for code in ErrorCode:
        texts = "<br>".join(f"`` {_cell(text)} ``" for text in messages.get(code.name, ()))
        lines.append(f"| {int(code)} | {code.name} | {texts} |")
    lines += ["", "## Exit statuses\n", "| status | name | what it says |", "|---|---|---|"]
    source = inspect.getsource(ExitStatus)
    for status in ExitStatus:
        found = re.search(rf'{status.name} = \d+\n\s+"""(.*?)"""', source, re.DOTALL)
        lines.append(f"| {int(status)} | {status.name} | {_cell(found[1]) if found else 'it did what it was asked'} |")
    return "\n".join(lines) + "\n"


def documented(kind: type) -> tuple[str, dict[str, str]]:
    """A class's docstring without its section of attributes, and that section: name -> text."""
    text = inspect.getdoc(kind) or ""
    head, _, section = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    for item in re.split(r"\n(?=\s*\w[\w, ]*: )", inspect.cleandoc("\n" + section)):
        names, _, what = item.partition(": ")
        for name in re.split(r",\s*", names.strip()) if what else ():
            found[name] = _markdown(what)
    return _markdown(head), found


def _markdown(text: str | None) -> str:
    """A docstring's text: its code spans are double backticks, as Markdown's may be."""
    return inspect.cleandoc(text or "").strip()


def _cell(text: Any) -> str:
    return re.sub(r"\s+", " ", str(text)).replace("|", r"\|").replace("<", "&lt;").strip()


def _limit(constraint: Any) -> str:
    """A constraint of pydantic's, such as ``Ge(ge=1)``, in signs."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}
    return ", ".join(f"{sign} {getattr(constraint, name)}" for name, sign in signs.items() if hasattr(constraint, name))


def _plain(value: Any) -> str:
    if hasattr(type(value), "model_fields"):
        return "its defaults"
    return json.dumps(value) if isinstance(value, str | int | float | bool | None) else _cell(value)
