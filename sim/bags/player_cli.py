"""`roboref sim play`: a rosbag2 into a running ROS 2 system."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import rclpy
import tyro
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from roboref_core.command_line import ExitStatus

from sim.bags.player import BagPlayer, ViewNotTaken
from sim.bags.player_bag import Bag
from sim.bags.player_options import PlayOptions
from sim.bags.publishing import AnotherClock, NoSubscriber
from sim.bags.terminal import keys, progress
from sim.bags.view_waiter import ViewWaiter


@dataclass(frozen=True)
class Play:
    """Play a rosbag2 with /clock, in real time or, with --stepped, view by view as the node takes them.

    In a terminal: space pauses, the arrow keys go 5 s back and on, q ends.

      roboref sim play bags/scene0000_00 --rate 2 --loop
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

    def __call__(self) -> int:
        rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        node = rclpy.create_node("roboref_player")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        spinning = threading.Thread(target=executor.spin, daemon=True)
        spinning.start()
        try:
            with Bag(self.bag) as bag:
                self._play(bag, node)
        except (AnotherClock, NoSubscriber, ViewNotTaken) as error:
            print(f"roboref sim play: {error}", file=sys.stderr)
            return ExitStatus.BAD
        finally:
            executor.shutdown()
            spinning.join()
            node.destroy_node()
            rclpy.shutdown()
        return ExitStatus.DONE

    def _play(self, bag: Bag, node: Node) -> None:
        waiter = ViewWaiter(node, self.view_topic, self.view_timeout) if self.stepped else None
        player = BagPlayer(node, bag, self.options, wait_for_taken=waiter)
        signal.signal(signal.SIGINT, lambda *_: player.stop())
        signal.signal(signal.SIGTERM, lambda *_: player.stop())
        start_ns = bag.start_ns + round(self.start * 1e9)
        end_ns = bag.end_ns if self.duration is None else start_ns + round(self.duration * 1e9)
        if start_ns > bag.end_ns:
            raise ValueError(f"{bag.path}: start is after its end, {(bag.end_ns - bag.start_ns) / 1e9:.1f} s")
        if self.paused:
            player.pause()
        if waiter is not None:
            waiter.wait_for_publisher(self.options.discovery_seconds)
        steps = []
        with keys(player), progress(player, bag):
            while True:
                player.seek(start_ns)
                if waiter is not None:
                    steps += player.step_until(end_ns)
                else:
                    player.play_until(end_ns)
                if not self.loop or player.stopped:
                    break
        if waiter is not None:
            taken = sum(step.has_pose for step in steps)
            print(f"{taken} views taken, {len(steps) - taken} without pose")
