"""Code fences of a page as one bash script that does what a reader does, in order.

    ```sh                              runs in the page's one shell
    ```python                          runs as a program, with that shell's folder and variables
    <!-- file: NAME -->                the fence below is written to NAME
    <!-- in the background -->         the fence below runs in a terminal of its own
    <!-- in the background until: TEXT -->  the same, and the page goes on when it has printed TEXT
    <!-- ends with 0 or 1 -->          the last line of the fence below may end with these
    <!-- not run: REASON -->           the fence below is skipped

Fences of other languages are not run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(
    r"(?:^<!-- (?P<how>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_HEAD = r"""set -euo pipefail
_children=()
# Each is the leader of its group: what it started ends with it.
_end() { for child in "${_children[@]}"; do kill -INT -- "-$child" 2> /dev/null || true; done; wait; }
trap _end EXIT
_await() {  # log, text, process
    for _ in $(seq 1500); do
        if grep -qF -- "$2" "$1"; then return; fi
        kill -0 "$3" 2> /dev/null || break
        sleep 0.2
    done
    echo "never printed '$2':" >&2; cat "$1" >&2; return 1
}
"""


@dataclass(frozen=True)
class Fence:
    """A code block of a page.

    Attributes:
        how: the comment right above it, without its marks; "" for none.
        language: language of the block.
        code: its lines.
    """

    how: str
    language: str
    code: str


def fences(page: str) -> list[Fence]:
    """The code blocks of a page's Markdown, in order."""
    return [Fence(m["how"] or "", m["language"], m["code"]) for m in _FENCE.finditer(page)]


def skipped(page: str) -> list[str]:
    """Why blocks of a page are not run, in order."""
    return [fence.how.partition(": ")[2] for fence in fences(page) if fence.how.startswith("not run")]


def script(page: str) -> str:
    """A bash script of a page; "" if nothing of it runs."""
    parts = list(_parts(fences(page)))
    return _HEAD + "\n".join(parts) if parts else ""


def _parts(found: list[Fence]) -> Iterator[str]:
    for number, (how, language, code) in enumerate((each.how, each.language, each.code) for each in found):
        kind, _, rest = how.partition(": ")
        if kind == "not run":
            continue
        if kind == "file":
            yield f"cat > {shlex.quote(rest)} <<'_END_OF_FILE'\n{code}_END_OF_FILE\n"
        elif language == "python":
            yield f"cat > _fence{number}.py <<'_END_OF_FILE'\n{code}_END_OF_FILE\npython _fence{number}.py\n"
        elif language != "sh":
            continue
        elif kind.startswith("in the background"):
            log = f"_fence{number}.log"
            yield f"set -m; ( {code}) > {log} 2>&1 & _children+=($!); set +m\n"
            if rest:
                yield f"_await {log} {shlex.quote(rest)} $!\n"
        elif kind.startswith("ends with "):
            allowed = "|".join(re.findall(r"\d+", kind))
            yield f"_ended=0\n{code.rstrip()} || _ended=$?\ncase $_ended in {allowed}) ;; *) exit $_ended ;; esac\n"
        else:
            yield code
