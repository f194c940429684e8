"""The executable. Signals are dealt with from its first line on: a signal at any moment is an end, no failure."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

_USAGE = """usage: ros2 run roboref_ros roboref_node [--ros-args -p NAME:=VALUE ... -r FROM:=TO ... --params-file FILE]

Answers where the things are that people ask for or point at, from RGB-D topics. Topics to remap: color/image_raw,
color/camera_info, depth/image_raw, depth/camera_info, and odom or pose. config/roboref.yaml lists all parameters.

  roboref_node --ros-args -p pose.source:=odometry -r color/image_raw:=/camera/color/image_raw
"""

# For the answers that the end of questions brings about to be sent [s].
_LAST_ANSWERS = 0.1
# Longest wait for the executor to end what it is doing [s].
_LAST_TRANSITION = 5.0


class _Ending:
    """Turns signals into a wish to end, and into the end of a start that takes long."""

    def __init__(self) -> None:
        self.wished = threading.Event()
        self.started = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.started:
            # Amid imports, or a model being loaded: there is nothing to hand over, and nothing to wait for.
            os._exit(0)
        self.wished.set()

    def over(self) -> None:
        """Ignore further signals: the interpreter gives SIGINT its deadly default back before the process is gone."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns 0; 1 if it cannot start, or fails; 2 for wrong arguments.

    Args:
        args: with the program's name; None: those of the process.
    """
    ending = _Ending()
    # After the handlers: these imports take a second.
    import logging

    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.logging import get_logger
    from roboref_core.errors import ReferError

    from roboref_ros.ending import spin
    from roboref_ros.node import RoborefNode
    from roboref_ros.starting import complaint, initialise, words

    logging.basicConfig(level=logging.WARNING, format="[%(levelname)s] [%(name)s]: %(message)s")
    given = words("roboref_node", _USAGE, args)
    if isinstance(given, int):
        ending.over()
        return given
    if text := initialise(args):
        print(f"roboref_node: {text}", file=sys.stderr)
        ending.over()
        return 1
    try:
        node = RoborefNode()
        node.start()
    except (ValueError, ImportError, ReferError) as error:
        get_logger("roboref").fatal(str(error))
        rclpy.try_shutdown()
        ending.over()
        return 1
    except RuntimeError as error:
        if not (text := complaint(error)):
            raise
        print(f"roboref_node: {text}", file=sys.stderr)
        rclpy.try_shutdown()
        ending.over()
        return 1
    ending.started = True
    failures: list[BaseException] = []
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def run() -> None:
        try:
            spin(executor)
        except BaseException as error:
            logging.getLogger("roboref").exception("the node failed")
            failures.append(error)
        finally:
            ending.wished.set()

    thread = threading.Thread(target=run, name="executor")
    thread.start()
    # A signal's handler runs in this thread, which waits for nothing else.
    ending.wished.wait()
    # While the executor runs: who waits for an answer gets one.
    node.stop_answering()
    time.sleep(_LAST_ANSWERS)
    rclpy.try_shutdown()
    thread.join(_LAST_TRANSITION)
    if thread.is_alive():
        # Amid a transition that loads a model: as at start, there is nothing to hand over.
        os._exit(0)
    node.close()
    executor.shutdown()
    node.destroy_node()
    ending.over()
    return 1 if failures else 0
