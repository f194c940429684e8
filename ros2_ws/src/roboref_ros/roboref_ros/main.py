"""The executable. Signals are dealt with from its first line on: a signal at any moment is an end, no failure."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

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
    """Run the node until SIGINT or SIGTERM. Returns 0; 1 if it cannot start, or fails."""
    ending = _Ending()
    # After the handlers: these imports take a second.
    import logging

    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.logging import get_logger
    from rclpy.signals import SignalHandlerOptions
    from roboref_core.command_line import log_folder_remedy
    from roboref_core.errors import ReferError

    from roboref_ros.ending import spin
    from roboref_ros.node import RoborefNode

    logging.basicConfig(level=logging.WARNING, format="[%(levelname)s] [%(name)s]: %(message)s")
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        if text := log_folder_remedy(error):
            print(f"roboref_node: {text}", file=sys.stderr)
            ending.over()
            return 1
        raise
    try:
        node = RoborefNode()
        node.start()
    except (ValueError, ImportError, ReferError) as error:
        get_logger("roboref").fatal(str(error))
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
