"""The command `roboref` finds its modules, and says what is wrong where it cannot."""

from __future__ import annotations

import pytest

from offline import cli


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    try:
        status = cli.main([name, "--help"])
    except SystemExit as end:  # as argparse ends it
        status = end.code
    captured = capsys.readouterr()
    if "source setup/env.sh" in captured.err:
        pytest.skip(captured.err.strip())
    assert status in (0, None)
    assert "usage" in captured.out.lower()


def test_help_lists_every_command(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)


def test_unknown_command_is_refused_with_the_list(capsys):
    assert cli.main(["dance"]) == 2
    captured = capsys.readouterr()
    assert "'dance'" in captured.err and "usage: roboref" in captured.err
    assert not captured.out


def test_missing_package_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "needs_much.py").write_text("import no_such_package.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "much", ("needs_much", ""))
    assert cli.main(["much"]) == 2
    assert "no_such_package is not installed" in capsys.readouterr().err


def test_fault_of_our_own_is_not_dressed_up(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "broken", ("offline.no_such_module", ""))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        cli.main(["broken"])
