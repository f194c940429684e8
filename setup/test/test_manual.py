"""The generated reference is complete, and the site builds with broken links as errors."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "setup" / "manual"))

from failures import failures  # noqa: E402
from reference import every_command, pages  # noqa: E402


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return pages()


def test_every_parameter_appears(written):
    from roboref_ros.parameters import PARAMETERS

    for each in PARAMETERS:
        assert f"| `{each.name}` |" in written["reference/parameters.md"]


def test_every_interface_appears(written):
    files = [path for kind in ("msg", "srv", "action") for path in (ROOT / "ros2_ws/src/roboref_msgs" / kind).iterdir()]
    assert len(files) > 10
    for file in files:
        assert f"### {file.stem}\n" in written["reference/interfaces.md"]
        assert file.read_text(encoding="utf-8").strip() in written["reference/interfaces.md"]


def test_every_command_appears_with_its_options(written):
    page = written["reference/commands.md"]
    for each in every_command():
        assert f"## {each.program}\n" in page
        assert f"usage: {each.program}" in each.help, each.program


def test_every_option_says_what_it_is():
    undescribed = []
    for command in every_command():
        assert "``" not in command.help, command.program
        # An option's choices may take several lines; behind them come two blanks or a line end, then its description.
        for entry in re.split(r"\n  (?=-)", re.sub(r"\{[^}]*\}", "{}", command.help))[1:]:
            option, _, text = re.sub(r"\s{2,}", "\n", entry).partition("\n")
            # The entries of a mapping share the description of the whole.
            if text.startswith("(") and ".mix." not in option:
                undescribed.append(f"{command.program} {option}")
    assert undescribed == []


def test_every_key_of_a_plan_appears(written):
    from offline.train.plan import Evaluation, Lora, Plan, Reinforcement, Rewards, Stage

    for model in (Plan, Stage, Lora, Reinforcement, Rewards, Evaluation):
        for name in model.model_fields:
            assert f"| `{name}` |" in written["reference/plan.md"]


def test_every_error_code_and_exit_status_appears(written):
    from roboref_core.command_line import ExitStatus
    from roboref_core.errors import ErrorCode

    for value in (*ErrorCode, *ExitStatus):
        assert f"| {int(value)} | {value.name} |" in written["reference/errors.md"]
    # Every code but those that only wrap what another program said has a text of its own.
    assert set(failures()) >= {code.name for code in ErrorCode} - {"NONE"}


def test_formats_name_every_field(written):
    from dataclasses import fields

    from offline.eval.records.replays import Question, Truth
    from offline.eval.records.samples import Sample

    for kind in (Sample, Question, Truth):
        for each in fields(kind):
            assert f"| `{each.name}` |" in written["reference/formats.md"], (kind, each.name)


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="MkDocs comes with `make docs`")
def test_a_broken_link_is_an_error(tmp_path):
    from hooks import on_page_markdown
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.exceptions import PluginError
    from mkdocs.structure.files import File
    from mkdocs.structure.pages import Page

    config = MkDocsConfig()
    config.load_dict({"site_name": "x", "docs_dir": str(ROOT / "docs")})
    config.validate()
    page = Page("x", File("howto/x.md", str(ROOT / "docs"), str(tmp_path), False), config)
    assert on_page_markdown("[it](../../README.md)", page, config) == "it (`README.md`)"
    assert on_page_markdown("[it](../launch.md#a)", page, config) == "[it](../launch.md#a)"
    with pytest.raises(PluginError, match="nowhere"):
        on_page_markdown("[it](../../nowhere.md)", page, config)


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="MkDocs comes with `make docs`")
def test_no_page_is_lost(tmp_path):
    from hooks import on_config
    from mkdocs.config.defaults import MkDocsConfig

    (tmp_path / "howto").mkdir()
    for name in ("index.md", "howto/new.md"):
        (tmp_path / name).write_text("# x\n")
    config = MkDocsConfig()
    config.load_dict({"site_name": "x", "docs_dir": str(tmp_path), "nav": [{"Home": "index.md"}]})
    config.validate()
    assert on_config(config).nav == [{"Home": "index.md"}, {"More": ["howto/new.md"]}]


def test_the_generator_needs_no_site(tmp_path):
    """The reference can be written without MkDocs."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import reference, failures; assert 'mkdocs' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(ROOT / "setup" / "manual")], check=True, cwd=tmp_path)


def test_commands_of_every_page_exist():
    """`roboref a b` in a page, wherever it stands, is a command."""
    known = {each.program for each in every_command()}
    groups = {program.rpartition(" ")[0] for program in known}
    named = re.compile(r"`(roboref(?: [a-z][a-z-]*)+)|^\s*(roboref(?: [a-z][a-z-]*)+)", re.MULTILINE)
    wrong = []
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        for match in named.finditer(page.read_text(encoding="utf-8")):
            words = (match[1] or match[2]).split()
            # Words behind the command are its arguments.
            if not any(" ".join(words[:n]) in known | groups for n in range(len(words), 1, -1)) and len(words) > 1:
                wrong.append(f"{page.name}: {' '.join(words)}")
    assert not wrong


def test_every_help_has_an_example_that_parses():
    """A line that begins with the command's name, and whose options exist; lines of further options go on with it."""
    import tyro
    from roboref_core.command_line import CommandTable, load

    from offline.cli import main

    def command_of(words):
        found = main
        for word in words:
            found = load(found.commands[word][0])
        return load(found.default) if isinstance(found, CommandTable) else found

    without = []
    for each in every_command():
        line = re.search(
            rf"^ *({re.escape(each.program)} .*(?:\n *--.*)*)$", each.help.partition("\n")[2], re.MULTILINE
        )
        if line is None:
            without.append(each.program)
            continue
        words = each.program.split()[1:]
        given = shlex.split(line[1].removesuffix(" ..."))[len(words) + 1 :]
        tyro.cli(command_of(words), args=given, prog=each.program)
    assert not without


def test_no_help_shows_a_path_as_the_program():
    for each in every_command():
        assert each.help.startswith(f"usage: {each.program} ")
        assert not re.search(r"usage: \S*/|__main__|cli\.py", each.help)


def test_every_table_has_an_example():
    from roboref_core.command_line import CommandTable, load

    from offline.cli import main

    tables = [main, *(each for where, _ in main.commands.values() if isinstance(each := load(where), CommandTable))]
    assert len(tables) == 5
    assert all(table.example.startswith(f"{table.program} ") and table.example in table.usage() for table in tables)
