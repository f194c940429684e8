"""Every command of `roboref eval` is there and explains itself."""

from __future__ import annotations

import pytest

from offline.eval import cli


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([name, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: roboref eval {name}" in capsys.readouterr().out


def test_unknown_command_is_refused_with_the_list(capsys):
    assert cli.main(["dance"]) == 2
    captured = capsys.readouterr()
    assert "'dance'" in captured.err and "zeroshot" in captured.err and not captured.out
