"""The node under test, as its own process on real DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

_STOP_SECONDS = 10.0


class NodeProcess:
    """Starts ``roboref_node`` and ends it again; use as a context manager.

    Args:
        parameters: ROS parameters by name, given on the command line.
        remaps: names of the node -> names in this replay.
        log: file that receives what the node prints.
    """

    def __init__(self, parameters: Mapping[str, object], remaps: Mapping[str, str], log: Path):
        arguments = ["--ros-args"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={_yaml(value)}"]
        for name, other in remaps.items():
            arguments += ["-r", f"{name}:={other}"]
        self._arguments = arguments
        self._log = log
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> NodeProcess:
        try:
            executable = Path(get_package_prefix("roboref_ros")) / "lib" / "roboref_ros" / "roboref_node"
        except (PackageNotFoundError, LookupError, OSError) as error:
            raise ImportError(
                "roboref_ros is not built or not sourced: run 'make setup', then 'source setup/env.sh' "
                "(with your own ROS: 'colcon build' in ros2_ws, then 'source install/setup.bash')"
            ) from error
        with open(self._log, "wb") as log:
            # A session of its own: a Ctrl-C at the terminal reaches us first, and we end the node in order.
            self._process = subprocess.Popen(
                [str(executable), *self._arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        return self

    def __exit__(self, *_) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raises ChildProcessError with the end of its log if the node has ended."""
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise ChildProcessError(f"the node ended with code {code}; its log {self._log} ends:\n{tail}")

    def cpu_seconds(self) -> float:
        """Processor time that the node has used so far [s] (Linux)."""
        if self._process is None:
            return 0.0
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for ``ready()``. Raises ChildProcessError if the node ends, TimeoutError naming ``what``."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:.0f} s for {what}; the node's log: {self._log}")
            time.sleep(0.02)


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
