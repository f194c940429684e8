"""How the node is: warnings in its log, and the parts of its diagnostics."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from roboref_core.errors import ErrorCode
from roboref_core.views.view_buffer import ViewBuffer

from roboref_ros.intake.diagnosis import diagnose
from roboref_ros.ros_time import is_simulated
from roboref_ros.services.diagnostics import ERROR, OK, WARN, Diagnostics, status
from roboref_ros.session import Session

_MODEL_FAILS = (ErrorCode.INFERENCE_FAILED, ErrorCode.OUT_OF_MEMORY, ErrorCode.TIMEOUT, ErrorCode.BUSY)
# The same trouble is named this often [s].
_REPEAT = 5.0


class Health:
    """Looks at the node once a second, steady time: it must speak when the clock of a paused bag stands still.

    Args:
        state: the lifecycle state's name, and why the newest transition failed ("" if it did not).
    """

    def __init__(self, node: Node, state: Callable[[], tuple[str, str]]):
        self._node = node
        self._state = state
        self._warned: dict[object, float] = {}
        self._overflowed = 0
        self._session: Session | None = None
        self._buffer: ViewBuffer | None = None
        self._diagnostics = Diagnostics(
            node,
            {
                "lifecycle": self._lifecycle,
                "intake": self._intake,
                "poses": self._poses,
                "questions": self._questions,
            },
        )
        self._timer = node.create_timer(1.0, self._look_for_trouble, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def watch(self, session: Session | None, buffer: ViewBuffer | None) -> None:
        """Look at this session from now on; None: there is none to look at."""
        self._session, self._buffer, self._overflowed = session, buffer, 0

    def warn(self, kind: object, text: str) -> None:
        """Log a warning, of each kind at most one in five seconds."""
        now = time.monotonic()
        if now - self._warned.get(kind, -_REPEAT) >= _REPEAT:
            self._warned[kind] = now
            self._node.get_logger().warning(text)

    def _look_for_trouble(self) -> None:
        session = self._session
        if session is None:
            return
        session.listen_to_latched()
        silent = time.monotonic() - session.last_view
        if silent > self._node.get_parameter("sync.warn_after").value:
            diagnosis = session.intake.diagnosis(is_simulated(self._node))
            self.warn("silent", f"no view for {silent:.0f} s: {diagnosis.text}")
        if session.intake.overflowed > self._overflowed:
            self._overflowed = session.intake.overflowed
            self.warn("overflow", f"images come faster than they are handled: {session.intake.summary()}")
        for topics in session.topics:
            publishers = self._node.count_publishers(topics.image)
            if publishers > 1:
                self.warn(topics.image, f"{publishers} publishers on {topics.image}: their images are mixed up")

    def _lifecycle(self) -> DiagnosticStatus:
        name, failure = self._state()
        values: dict[str, object] = {"state": name}
        if failure:
            return status(ERROR, f"{name}: {failure}", values)
        if name != "active":
            return status(WARN, f"{name}: questions are answered NOT_ACTIVE", values)
        return status(OK, name, values)

    def _intake(self) -> DiagnosticStatus | None:
        session, buffer = self._session, self._buffer
        if session is None or buffer is None:
            return None
        facts = session.intake.facts(is_simulated(self._node))
        silent = time.monotonic() - session.last_view
        values: dict[str, object] = {
            "time since the last view [s]": silent,
            "pairs": facts.pairs,
            "dropped because too many came": facts.overflowed,
            "buffered views": len(buffer),
            "buffered images [byte]": buffer.nbytes,
        }
        for stream in (facts.color, facts.depth):
            values[f"{stream.topic} rate [Hz]"] = stream.rate
            values[f"{stream.topic} delay [s]"] = stream.delay
            values[f"{stream.topic} publishers"] = stream.publishers
            values[f"{stream.topic} without partner"] = stream.unpaired
            values[f"{stream.topic} with outlying stamps"] = stream.outliers
        if silent > self._node.get_parameter("sync.warn_after").value:
            return status(ERROR, diagnose(facts).text, values)
        if facts.problem is not None or abs(facts.color.delay) > self._node.get_parameter("refer.max_view_age").value:
            return status(WARN, diagnose(facts).text, values)
        return status(OK, "views arrive", values)

    def _poses(self) -> DiagnosticStatus | None:
        session, buffer = self._session, self._buffer
        if session is None or buffer is None:
            return None
        newest = buffer.newest()
        problem = session.intake.pose_problem
        values: dict[str, object] = {"source": session.poses.topic, "world frame": session.poses.world_frame}
        if newest is not None:
            values["newest view has a pose"] = newest.T_world_camera is not None
        residual = session.residuals.newest
        values |= {
            "pose residual [m]": residual.residual,
            "pose residual explained by sensor noise [m]": residual.expected,
            "compared pairs of keyframes": residual.pairs,
        }
        if problem:
            return status(WARN, problem, values)
        if residual.poses_disagree:
            return status(WARN, "poses disagree with what the camera sees: the surfaces of keyframes lie apart", values)
        return status(OK, "poses arrive", values)

    def _questions(self) -> DiagnosticStatus | None:
        if self._session is None:
            return None
        answering = self._session.answering
        newest = answering.newest
        values: dict[str, object] = {"waiting": answering.waiting, "model": answering.model_name} | _gpu_memory()
        if newest is None:
            return status(OK, "nothing was asked yet", values)
        values |= {
            "newest answer": newest.status.name,
            "inference [s]": newest.inference_time,
            "queued [s]": newest.queue_time,
        }
        if newest.error_code in _MODEL_FAILS:
            return status(WARN, f"{newest.error_code.name}: {newest.error_msg}", values)
        return status(OK, "questions are answered", values)


def _gpu_memory() -> dict[str, object]:
    """What this process holds on the current GPU; empty unless a model brought PyTorch and a GPU into use."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {
        "GPU memory in use [byte]": torch.cuda.memory_allocated(),
        "GPU memory reserved [byte]": torch.cuda.memory_reserved(),
    }
