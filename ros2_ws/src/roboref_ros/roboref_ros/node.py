"""The node: a managed (lifecycle) node that makes and unmakes what answers questions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.qos import DurabilityPolicy, QoSProfile
from roboref_core.errors import ReferError
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer
from roboref_msgs.msg import ReferenceView

from roboref_ros import mistyped, parameters
from roboref_ros.bond import Bond, make_bond
from roboref_ros.conversions import view_to_message
from roboref_ros.ending import unless_ending
from roboref_ros.intake.pairing import COLOR, DEPTH
from roboref_ros.services.action import ReferAction
from roboref_ros.services.futures import Deadlines
from roboref_ros.services.health import Health
from roboref_ros.services.questions import Questions
from roboref_ros.services.spoken import SpokenQuestions
from roboref_ros.services.view_services import ViewServices
from roboref_ros.session import Session

_log = logging.getLogger(__name__)
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
# What a person can mend, by parameters or by installing something.
_EXPECTED = (ValueError, ImportError, ReferError)


class RoborefNode(LifecycleNode):
    """Answers where the things are that people ask for or point at in earlier views.

    Topics (relative, to be remapped): color/image_raw, color/camera_info, depth/image_raw,
    depth/camera_info, and odom or pose. Services and publications are under the node's own name.

    ``configure`` reads the parameters and makes the buffer of views; ``activate`` subscribes, loads and warms the
    model; ``deactivate`` unmakes that, and the buffer stays; ``cleanup`` drops the buffer. Services, action and
    diagnostics are there from the constructor on, and answer NOT_ACTIVE unless the node is active. A transition that
    fails for a reason to be mended leaves the node in the state before it; one that fails for an unforeseen reason
    leads through error processing to unconfigured.

    Raises ValueError if a parameter cannot be used.
    """

    def __init__(self, **kwargs: Any):
        super().__init__("roboref", **kwargs)
        parameters.declare(self)
        for text in mistyped.unknown(self):
            self.get_logger().warning(text)
        self.add_pre_set_parameters_callback(mistyped.suggest(self))
        self.add_on_set_parameters_callback(parameters.guard(lambda: self.state == "unconfigured"))
        self._failure: Exception | None = None
        self._buffer: ViewBuffer | None = None
        self._session: Session | None = None
        self._bond: Bond | None = None
        # A late player or display still gets the newest ones.
        taken = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._views = self.create_publisher(ReferenceView, "~/view", taken)
        self._deadlines = Deadlines()
        self._view_services = ViewServices(self, self._deadlines)
        self._questions = Questions(self, self._deadlines)
        self._action = ReferAction(self, self._questions)
        self._spoken = SpokenQuestions(self, self._questions)
        self._health = Health(self, lambda: (self.state, str(self._failure or "")))

    @property
    def state(self) -> str:
        """Name of the present lifecycle state."""
        return str(self._state_machine.current_state[1])

    def start(self) -> None:
        """Configure and activate, if the parameter ``autostart`` says so. Raises what kept it from that."""
        if not self.get_parameter("autostart").value:
            return
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != _SUCCESS:
                raise self._failure or RuntimeError("the node did not become active")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("activate", self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("deactivate", self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("clean up", self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("shut down", self._clean_up)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything and keep the reason for the diagnostics; the node can then be configured again."""
        try:
            self._clean_up()
        except Exception:
            _log.exception("nothing could be saved")
            return _FAILURE
        return _SUCCESS

    def _transition(self, name: str, run: Callable[[], None]) -> TransitionCallbackReturn:
        self._failure = None
        try:
            run()
        except _EXPECTED as error:
            self._failure = error
            self.get_logger().error(f"cannot {name}: {error}")
            return _FAILURE
        except Exception as error:
            self._failure = error
            _log.exception("cannot %s", name)
            return TransitionCallbackReturn.ERROR
        return _SUCCESS

    def _configure(self) -> None:
        parameters.check(self)
        self._buffer = ViewBuffer(parameters.buffer_config(self))

    def _activate(self) -> None:
        assert self._buffer is not None
        self._session = session = Session(self, self._buffer, self)
        try:
            self._bond = make_bond(self)
        except Exception:
            self._deactivate()
            raise
        self._view_services.buffer = self._buffer
        self._questions.answering = session.answering
        self._health.watch(session, self._buffer)
        for text in mistyped.unused_qos(self):
            self.get_logger().warning(text)
        self.get_logger().info(
            f"model {session.answering.model_name}, poses from {session.poses.topic}, images from "
            f"{session.topics[COLOR].image} and {session.topics[DEPTH].image}"
        )

    def _deactivate(self) -> None:
        self.stop_answering()
        self._health.watch(None, None)
        session, self._session = self._session, None
        if session is not None:
            session.close()
            get_logger(f"{self.get_name()}.end").info(session.intake.summary())

    def _clean_up(self) -> None:
        self._deactivate()
        self._buffer = None

    def stop_answering(self) -> None:
        """From now on NOT_ACTIVE; who waits is answered CANCELED, which the executor sends as long as it runs.

        A lifecycle manager is told, which takes a valid context.
        """
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.shutdown()
        self._questions.answering = None
        self._view_services.deactivate()
        if self._session is not None:
            self._session.stop_answering()

    def close(self) -> None:
        """Stop all threads; the node is of no use afterwards."""
        self._clean_up()
        self._deadlines.close()
        self._view_services.close()

    def on_view(self, view: View) -> None:
        buffer = self._buffer
        if buffer is None:
            return
        self._view_services.on_view(view)
        with unless_ending(self):
            self._views.publish(view_to_message(view, buffer.is_pinned(view.view_id), coverage=False))

    def on_forgotten(self, pinned: int) -> None:
        self.get_logger().warning(f"the clock jumped: all views are forgotten but {pinned} pinned ones")

    def on_problem(self, kind: object, text: str) -> None:
        self._health.warn(kind, text)
