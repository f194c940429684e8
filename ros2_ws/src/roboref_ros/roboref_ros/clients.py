"""Asking the node from Python."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from roboref_core.referring.query import Query
from roboref_msgs.action import ReferPoint as ReferPointAction
from roboref_msgs.msg import ReferAnswer, ReferQuery
from roboref_msgs.srv import ReferPoint

from roboref_ros.action_client import ActionClient
from roboref_ros.conversions import query_to_message

_NO_QUESTION = Query(text="", timeout=-1.0)
# For the node to hear of a cancel [s].
_LAST_WORD = 1.0


class ReferClient:
    """Blocking questions, from any thread: a script's, a callback's, one that nobody spins for.

    It has a node and an executor of its own, because a wait for an answer in a callback of the executor
    that would receive it never ends.

    Args:
        node: gives context and namespace; it may be spun or not.
        name: name of the node that answers, relative to the namespace or absolute.
    """

    def __init__(self, node: Node, name: str = "roboref"):
        own_name = f"{node.get_name()}_refer_client"
        self._node = Node(
            own_name,
            namespace=node.get_namespace(),
            context=node.context,
            # A launch file renames every node of the process; an argument of the node's own comes first.
            cli_args=["--ros-args", "-r", f"__node:={own_name}"],
            start_parameter_services=False,
            enable_rosout=False,
        )
        self._client = self._node.create_client(ReferPoint, f"{name}/refer_point")
        self._action = ActionClient(self._node, ReferPointAction, f"{name}/refer_point")
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._lock = threading.Lock()
        self._matched = False

    def wait(self, timeout: float) -> bool:
        """Wait until the node answers, at most ``timeout`` [s]. Returns whether it does.

        More than that the service exists: DDS matches requests and responses one after the other, and a
        response before its turn is lost, which a busy machine shows at start. So an empty query is
        sent, which the node refuses at no cost.
        """
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            if self._client.wait_for_service(remaining):
                try:
                    self._call(query_to_message(_NO_QUESTION), min(1.0, remaining), timeout)
                    return True
                except TimeoutError:
                    continue
        return False

    def refer(self, query: Query | ReferQuery, timeout: float = 60.0) -> ReferAnswer:
        """Ask, and wait at most ``timeout`` [s, steady] for the node to be there and to answer.

        Raises TimeoutError naming the service, and whether it is there.
        """
        deadline = time.monotonic() + timeout
        if not self._matched and not self.wait(timeout):
            raise TimeoutError(f"no {self._client.srv_name} within {timeout:g} s: does the node run, in this domain?")
        message = query_to_message(query) if isinstance(query, Query) else query
        return self._call(message, max(0.0, deadline - time.monotonic()), timeout)

    def refer_with_progress(
        self,
        query: Query | ReferQuery,
        on_progress: Callable[[ReferPointAction.Feedback], None],
        timeout: float = 60.0,
    ) -> ReferAnswer:
        """As ``refer``, through the action, for slow models: a question that gets no answer in time is cancelled.

        Args:
            on_progress: called in this thread with every state (queued, waiting for a view, inferring, locating).
        Raises:
            TimeoutError: naming the action, and whether it is there.
            RuntimeError: the node rejects the goal, as another is under way (``action.preemption``).
        """
        deadline = time.monotonic() + timeout
        message = query_to_message(query) if isinstance(query, Query) else query
        name = self._client.srv_name
        with self._lock:
            if not self._action.wait_for_server(timeout):
                raise TimeoutError(f"no action {name} within {timeout:g} s: does the node run, in this domain?")
            goal = ReferPointAction.Goal(query=message)
            sent = self._action.send_goal_async(goal, lambda feedback: on_progress(feedback.feedback))
            if not self._done(sent, deadline):
                raise TimeoutError(f"{name} did not take the goal within {timeout:g} s: does the node run?")
            handle = sent.result()
            if not handle.accepted:
                raise RuntimeError(f"{name} rejected the goal: another is under way")
            result = handle.get_result_async()
            if not self._done(result, deadline):
                self._done(handle.cancel_goal_async(), time.monotonic() + _LAST_WORD)
                raise TimeoutError(f"no answer from {name} within {timeout:g} s: the goal was cancelled")
            return result.result().result.answer

    def _done(self, future: Future, deadline: float) -> bool:
        self._executor.spin_until_future_complete(future, max(0.0, deadline - time.monotonic()))
        return bool(future.done())

    def _call(self, message: ReferQuery, remaining: float, timeout: float) -> ReferAnswer:
        with self._lock:
            future = self._client.call_async(ReferPoint.Request(query=message))
            self._executor.spin_until_future_complete(future, remaining)
            if not future.done():
                self._client.remove_pending_request(future)
                self._matched = False
                raise TimeoutError(f"no answer from {self._client.srv_name} within {timeout:g} s: does the node run?")
            self._matched = True
            return future.result().answer

    def close(self) -> None:
        self._action.destroy()
        self._executor.shutdown()
        self._node.destroy_node()
