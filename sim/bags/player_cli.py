"""`roboref sim play`: a rosbag2 into a running ROS 2 system."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import rclpy
import tyro
from rclpy.executors import SingleThreadedExecutor
from tqdm import tqdm

from sim.bags.player import AnotherClock, BagPlayer, NoSubscriber, ViewNotTaken, ViewWaiter
from sim.bags.player_bag import Bag
from sim.bags.player_options import PlayOptions

_JUMP_NS = 5 * 10**9
_POLL_S = 0.1


@dataclass(frozen=True)
class PlayConfig:
    """Play a rosbag2 with /clock, in real time or, with --stepped, view by view as the node takes them.

    In a terminal: space pauses, the arrow keys go 5 s back and on, q ends.
    """

    bag: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BAG")]
    """A rosbag2 folder, or an .mcap or .db3 file."""
    start: float = 0.0
    """Where to start, in seconds after the bag's beginning."""
    duration: float | None = None
    """How much to play, in seconds of the bag; default: to its end."""
    loop: bool = False
    """Begin again at the end."""
    paused: bool = False
    """Start paused."""
    stepped: bool = False
    """Publish a view, wait until the node has taken it, publish the next."""
    view_topic: str = "/roboref/view"
    """Stepped: where the node announces the views it took."""
    view_timeout: float = 5.0
    """Stepped: seconds to wait for that before the view is sent again."""
    options: Annotated[PlayOptions, tyro.conf.arg(name="")] = field(default_factory=PlayOptions)


def main(argv: list[str] | None = None) -> int:
    config = tyro.cli(PlayConfig, args=argv, prog="roboref sim play")
    rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node = rclpy.create_node("roboref_player")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    try:
        with Bag(config.bag) as bag:
            _run(config, bag, node)
    except (ValueError, AnotherClock, NoSubscriber, ViewNotTaken) as error:
        print(f"roboref sim play: {error}", file=sys.stderr)
        return 1
    finally:
        executor.shutdown()
        spinning.join()
        node.destroy_node()
        rclpy.shutdown()
    return 0


def _run(config: PlayConfig, bag: Bag, node: rclpy.node.Node) -> None:
    waiter = ViewWaiter(node, config.view_topic, config.view_timeout) if config.stepped else None
    player = BagPlayer(node, bag, config.options, wait_for_taken=waiter)
    signal.signal(signal.SIGINT, lambda *_: player.stop())
    signal.signal(signal.SIGTERM, lambda *_: player.stop())
    start_ns = bag.start_ns + round(config.start * 1e9)
    end_ns = bag.end_ns if config.duration is None else start_ns + round(config.duration * 1e9)
    if start_ns > bag.end_ns:
        raise ValueError(f"{bag.path}: start is after its end, {(bag.end_ns - bag.start_ns) / 1e9:.1f} s")
    if config.paused:
        player.pause()
    if waiter is not None:
        waiter.wait_for_publisher(config.options.discovery_seconds)
    steps = []
    with _keys(player), _progress(player, bag):
        while True:
            player.seek(start_ns)
            if waiter is not None:
                steps += player.step_until(end_ns)
            else:
                player.play_until(end_ns)
            if not config.loop or player.stopped:
                break
    if waiter is not None:
        taken = sum(step.has_pose for step in steps)
        print(f"{taken} views taken, {len(steps) - taken} without pose")


@contextmanager
def _progress(player: BagPlayer, bag: Bag) -> Iterator[None]:
    """A bar over bag time, drawn from a thread."""
    done = threading.Event()
    length = (bag.end_ns - bag.start_ns) / 1e9
    style = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s of the bag"

    def draw() -> None:
        with tqdm(total=length, desc=bag.path.name, bar_format=style) as bar:
            last = False
            while not last:
                last = done.wait(_POLL_S)
                bar.n = (player.position_ns - bag.start_ns) / 1e9
                bar.set_description_str(f"{bag.path.name}{' (paused)' if player.paused else ''}", refresh=False)
                bar.refresh()

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _keys(player: BagPlayer) -> Iterator[None]:
    """Keys steer the player while the terminal belongs to us."""
    if not _in_foreground():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    done = threading.Event()

    def listen() -> None:
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
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _in_foreground() -> bool:
    """Whether standard input is a terminal, and ours to read."""
    try:
        return sys.stdin.isatty() and os.getpgrp() == os.tcgetpgrp(sys.stdin.fileno())
    except OSError:  # a terminal, but of another session
        return False
