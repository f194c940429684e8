"""A terminal that shows how far a player is, and steers it with keys."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from roboref_core.progress import Progress

from sim.bags.player import BagPlayer
from sim.bags.player_bag import Bag

_JUMP_NS = 5 * 10**9
_POLL_S = 0.1


@contextmanager
def progress(player: BagPlayer, bag: Bag) -> Iterator[None]:
    """A bar over bag time, drawn from a thread."""
    length = (bag.end_ns - bag.start_ns) / 1e9
    style = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s of the bag"

    def draw(done: threading.Event) -> None:
        with Progress(total=length, desc=bag.path.name, bar_format=style) as bar:
            last = False
            while not last:
                last = done.wait(_POLL_S)
                bar.n = (player.position_ns - bag.start_ns) / 1e9
                bar.set_description_str(f"{bag.path.name}{' (paused)' if player.paused else ''}", refresh=False)
                bar.refresh()

    with _beside(draw):
        yield


@contextmanager
def keys(player: BagPlayer) -> Iterator[None]:
    """Keys steer the player while the terminal belongs to us."""
    if not _in_foreground():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def listen(done: threading.Event) -> None:
        while not done.is_set():
            if not select.select([fd], [], [], _POLL_S)[0]:
                continue
            key = os.read(fd, 8)
            if key == b" ":
                (player.resume if player.paused else player.pause)()
            elif key in (b"\x1b[C", b"\x1b[D"):
                player.seek(player.position_ns + (_JUMP_NS if key == b"\x1b[C" else -_JUMP_NS))
            elif key == b"q":
                player.stop()

    tty.setcbreak(fd)
    try:
        with _beside(listen):
            yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """`work` runs in a thread of its own until the block ends; it returns soon after its event is set."""
    done = threading.Event()
    thread = threading.Thread(target=work, args=(done,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _in_foreground() -> bool:
    """Whether standard input is a terminal, and ours to read."""
    try:
        return sys.stdin.isatty() and os.getpgrp() == os.tcgetpgrp(sys.stdin.fileno())
    except OSError:  # a terminal, but of another session
        return False
