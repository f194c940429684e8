"""Completion of commands and options in bash and zsh, made from the command tables."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

_SCRIPT = """# Completion of {program}, for bash and zsh:
#   eval "$({program} --completion)"        or the same line in ~/.bashrc or ~/.zshrc
if [ -n "${{ZSH_VERSION:-}}" ]; then autoload -U +X bashcompinit && bashcompinit; fi
_{program}_words() {{
    case "$1" in
{cases}
    esac
}}
_{program}_complete() {{
    local path="{program}" word i words next
    for ((i = 1; i < COMP_CWORD; i++)); do
        next="$path ${{COMP_WORDS[i]}}"
        words="$(_{program}_words "$next")"
        [ -n "$words" ] || break
        path="$next"
    done
    word="${{COMP_WORDS[COMP_CWORD]}}"
    COMPREPLY=($(compgen -W "$(_{program}_words "$path")" -- "$word"))
}}
complete -o default -F _{program}_complete {program}
"""


@runtime_checkable
class Commands(Protocol):
    """A table of commands, see ``command_line.CommandTable``."""

    @property
    def program(self) -> str: ...

    @property
    def commands(self) -> Mapping[str, tuple[str, str]]: ...

    @property
    def version(self) -> str | None: ...

    @property
    def default(self) -> str: ...


def script(table: Commands) -> str:
    """The script of a program, whose commands are imported for it."""
    cases = [f'        "{path}") echo "{" ".join(words)}" ;;' for path, words in _words(table, table.program)]
    return _SCRIPT.format(program=table.program, cases="\n".join(cases))


def _words(table: Commands, path: str) -> Iterator[tuple[str, list[str]]]:
    """What may follow a command: names of commands, or options."""
    own = options(_load(table.default)) if table.default else ["--help"]
    yield path, [*table.commands, *own, *(["--version"] if table.version else [])]
    for name, (where, _) in table.commands.items():
        command = _load(where)
        if isinstance(command, Commands):
            yield from _words(command, f"{path} {name}")
        elif isinstance(command, type):
            yield f"{path} {name}", options(command)


def _load(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute or "main")


def options(command: type) -> list[str]:
    """The options of a command: those that its help lists at the head of a line."""
    import tyro

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        tyro.cli(command, args=["--help"])
    heads = re.findall(r"^\W*?(?:-\w, )?((?:--[\w.-]+(?: [^,]*)?,? ?)+)", shown.getvalue(), re.MULTILINE)
    return sorted({option for head in heads for option in re.findall(r"(?:^|[ ,])(--\w[\w.-]*)", head)})
