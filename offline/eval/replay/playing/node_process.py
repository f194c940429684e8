"""The node under test, as its own process on real DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

_STOP_SECONDS = 10.0


def node_executable() -> Path:
    """Where ``roboref_node`` is. Raises ImportError with what to do if it is not there."""
    try:
        return Path(get_package_prefix("roboref_ros")) / "lib" / "roboref_ros" / "roboref_node"
    except (PackageNotFoundError, LookupError, OSError) as error:
        raise ImportError(
            "roboref_ros is not built or not sourced: run 'make setup', then 'source setup/env.sh' "
            "(with your own ROS: 'colcon build' in ros2_ws, then 'source install/setup.bash')"
        ) from error


def start(command: Iterable[object], log: Path) -> subprocess.Popen[bytes]:
    """A process whose output goes to a file.

    It has a session of its own: a Ctrl-C at the terminal reaches us first, and we end it in order.
    """
    with open(log, "wb") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )


def stop(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """Interrupt processes, and kill what has not ended within ten seconds."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    end = time.monotonic() + _STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Processor time that a process has used so far [s] (Linux)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        self._process = start([node_executable(), *self._arguments], self._log)
        return self

    def __exit__(self, *_) -> None:
        if self._process is not None:
            stop([self._process])

    def check(self) -> None:
        """Raises ChildProcessError with the end of its log if the node has ended."""
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise ChildProcessError(f"the node ended with code {code}; its log {self._log} ends:\n{tail}")

    def cpu_seconds(self) -> float:
        """Processor time that the node has used so far [s] (Linux)."""
        return 0.0 if self._process is None else cpu_seconds(self._process)

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
