"""Bars are for terminals; logs get few, whole lines."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("tqdm")

from roboref_core.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_one_line_for_quick_work():
    log = io.StringIO()
    for _ in Progress(range(1000), desc="rooms", file=log):
        pass
    (line,) = log.getvalue().splitlines()
    assert line.startswith("rooms") and "1000/1000" in line and "\r" not in log.getvalue()


def test_a_log_gets_one_line_however_often_it_is_refreshed():
    log = io.StringIO()
    with Progress(total=3, bar_format="{percentage:3.0f}%|{bar}| {n:.1f} s", file=log) as bar:
        for _ in range(50):
            bar.refresh()
        bar.n = 3
    assert log.getvalue() == "100% 3.0 s\n"


def test_a_log_gets_nothing_of_what_is_not_to_be_left():
    log = io.StringIO()
    with Progress(total=3, leave=False, file=log) as bar:
        bar.update(3)
    assert not log.getvalue()


def test_a_terminal_gets_a_bar():
    terminal = Terminal()
    with Progress(total=3, file=terminal) as bar:
        bar.update(3)
    assert "\r" in terminal.getvalue() and "3/3" in terminal.getvalue()


@pytest.mark.parametrize("disable", [True, None])
def test_switched_off_it_says_nothing(disable):
    log = io.StringIO()
    for _ in Progress(range(3), file=log, disable=disable):
        pass
    assert not log.getvalue()
