"""RoboRef in a behaviour tree of py_trees; the only module that needs that package (``ros-jazzy-py-trees``)."""

from __future__ import annotations

import time
from typing import Any

from py_trees.behaviour import Behaviour
from py_trees.common import Access, Status
from rclpy.action.client import ClientGoalHandle
from rclpy.node import Node
from rclpy.task import Future
from roboref_core.referring.query import Query
from roboref_core.referring.stage import Stage
from roboref_msgs.action import ReferPoint
from roboref_msgs.msg import ReferAnswer

from roboref_ros.action_client import ActionClient
from roboref_ros.conversions import query_to_message
from roboref_ros.services.spoken import in_words


class Refer(Behaviour):
    """Asks the node where something is, without blocking the tree.

    RUNNING from the question to the answer, SUCCESS if that is FOUND, else FAILURE, with the reason in
    ``feedback_message``. Every answer goes to the blackboard. When the tree turns to something else the goal is
    cancelled, which stops the model.

    ``setup`` takes the node as py_trees_ros hands it on; the program that ticks the tree spins that node.

    Args:
        name: name of the behaviour.
        query: the question.
        server: name of the node that answers, relative to the namespace or absolute.
        key: key of the blackboard for the ReferAnswer.
        timeout: after which the question is given up, with FAILURE [s].
    """

    def __init__(self, name: str, query: Query, server: str = "roboref", key: str = "answer", timeout: float = 60.0):
        super().__init__(name)
        self._query = query
        self._server = server
        self._key = key
        self._timeout = timeout
        self._blackboard = self.attach_blackboard_client(name)
        self._blackboard.register_key(key, access=Access.WRITE)
        self._node: Node | None = None
        self._client: ActionClient | None = None
        self._question: _Question | None = None

    def setup(self, **kwargs: Any) -> None:
        """Raises KeyError if there is no ``node``."""
        if "node" not in kwargs:
            raise KeyError(f"{self.name}: setup needs node=, the rclpy node of the tree")
        self._node = kwargs["node"]
        self._client = ActionClient(self._node, ReferPoint, f"{self._server}/refer_point")

    def initialise(self) -> None:
        if self._client is None:
            raise RuntimeError(f"{self.name}: the tree is ticked before setup(node=...)")
        self._question = _Question(self._client, self._query, time.monotonic() + self._timeout)
        self.feedback_message = ""

    def update(self) -> Status:
        assert self._question is not None and self._node is not None
        try:
            answer = self._question.poll()
        except (TimeoutError, RuntimeError) as error:
            self._question.cancel()
            self.feedback_message = f"{self._server}: {error}"
            return Status.FAILURE
        if answer is None:
            self.feedback_message = self._question.progress
            return Status.RUNNING
        self._blackboard.set(self._key, answer)
        asked = self._query.text or "the marked place"
        self.feedback_message = in_words(asked, answer, self._node.get_clock().now().nanoseconds)
        return Status.SUCCESS if answer.status == ReferAnswer.STATUS_FOUND else Status.FAILURE

    def terminate(self, new_status: Status) -> None:
        if new_status is Status.INVALID and self._question is not None:
            self._question.cancel()

    def shutdown(self) -> None:
        if self._client is not None:
            self._client.destroy()


class _Question:
    """One goal, from its sending to its result.

    Args:
        deadline: time.monotonic() [s].

    Attributes:
        progress: what is going on, for a person.
    """

    def __init__(self, client: ActionClient, query: Query, deadline: float):
        self.progress = "waiting for the node"
        self._client = client
        self._message = query_to_message(query)
        self._deadline = deadline
        self._sent: Future | None = None
        self._result: Future | None = None
        self._cancelled = False

    def poll(self) -> ReferAnswer | None:
        """The answer once it is there. Raises TimeoutError; RuntimeError: the goal was rejected."""
        if self._sent is None and self._client.server_is_ready():
            goal = ReferPoint.Goal(query=self._message)
            self._sent = self._client.send_goal_async(goal, self._on_feedback)
            self._sent.add_done_callback(self._on_sent)
        if self._sent is not None and self._sent.done():
            handle: ClientGoalHandle = self._sent.result()
            if not handle.accepted:
                raise RuntimeError("the goal is rejected: another is under way")
            if self._result is None:
                self._result = handle.get_result_async()
            if self._result.done():
                return self._result.result().result.answer
        if time.monotonic() >= self._deadline:
            raise TimeoutError(f"no answer in time; last: {self.progress}")
        return None

    def cancel(self) -> None:
        """Also of a goal that is not accepted yet."""
        self._cancelled = True
        if self._sent is not None and self._sent.done():
            self._on_sent(self._sent)

    def _on_sent(self, sent: Future) -> None:
        handle = sent.result()
        if self._cancelled and handle.accepted and not (self._result is not None and self._result.done()):
            handle.cancel_goal_async()

    def _on_feedback(self, message: Any) -> None:
        feedback = message.feedback
        self.progress = Stage(feedback.state).name.lower().replace("_", " ")
        if feedback.queue_position:
            self.progress += f", {feedback.queue_position} before it"
