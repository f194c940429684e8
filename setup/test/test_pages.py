"""The lines of README and manual, run as they stand, and what the manual quotes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "setup" / "manual"))

from failures import every_text  # noqa: E402
from fences import Fence, fences, script, skipped  # noqa: E402

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
TUTORIALS = [page for page in PAGES if page.parent.name == "tutorials"]
SLOW = {"fine_tune.md", "laptop.md", "serve.md", "simulated_robot.md"}
# Pages whose blocks go together with files that the reader has.
RUN = [page for page in [*TUTORIALS, ROOT / "README.md"] if script(page.read_text(encoding="utf-8"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] * (page.name in SLOW)) for page in RUN]
)
def test_the_lines_of_a_page_run(page, tmp_path, domain):
    checkout = tmp_path / "checkout"
    (checkout / "setup").mkdir(parents=True)
    # The line of the pages, in an environment that is there already.
    (checkout / "setup" / "env.sh").write_text("")
    (checkout / "page.sh").write_text(script(page.read_text(encoding="utf-8")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    done = subprocess.run(
        ["bash", "page.sh"], cwd=checkout, env=environment, capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def test_every_tutorial_runs_or_says_why_not():
    for page in TUTORIALS:
        text = page.read_text(encoding="utf-8")
        runs = [fence for fence in fences(text) if fence.language == "sh"]
        assert page.name == "index.md" or runs
        assert all(len(reason) > 8 for reason in skipped(text))


def test_every_message_that_troubleshooting_quotes_exists():
    known = every_text()
    page = (ROOT / "docs" / "howto" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [line for fence in fences(page) if fence.language == "text" for line in fence.code.splitlines()]
    assert len(quoted) > 20
    assert not [line for line in quoted if not any(line in text for text in known)]


def test_fences_become_a_script():
    page = "<!-- file: a.txt -->\n```text\nhello\n```\n\n```sh\ncat a.txt\n```\n"
    page += "<!-- not run: no camera -->\n```sh\nfalse\n```\n"
    assert [fence.how for fence in fences(page)] == ["file: a.txt", "", "not run: no camera"]
    assert "false" not in script(page) and skipped(page) == ["no camera"]
    assert fences("```yaml\na: 1\n```\n") == [Fence("", "yaml", "a: 1\n")]


def test_a_script_runs_backgrounds_and_ends_them(tmp_path):
    page = (
        "<!-- in the background until: up -->\n```sh\necho up; exec sleep 60\n```\n"
        "<!-- ends with 0 or 3 -->\n```sh\n(exit 3)\n```\n```python\nprint('seen')\n```\n"
    )
    done = subprocess.run(
        ["bash", "-c", script(page)], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "seen\n"
