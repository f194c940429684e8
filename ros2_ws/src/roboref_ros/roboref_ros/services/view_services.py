"""Services about buffered views: capture, get, list, release. None of them runs on the executor thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer
from roboref_msgs.srv import CaptureView, GetView, ListViews, ReleaseViews
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from roboref_ros.conversions import clean_text, duration_or_none, to_time, view_to_message
from roboref_ros.services.burst import burst_profile
from roboref_ros.services.futures import Deadlines, awaitable, complete
from roboref_ros.services.questions import NOT_ACTIVE

_log = logging.getLogger(__name__)
_JPEG_QUALITY = 95


class ViewServices:
    """``~/capture_view``, ``~/get_view``, ``~/list_views`` and ``~/release_views``, as long as the node lives.

    Attributes:
        buffer: what they are about; None while the node is not active, and they say so or have nothing to tell.
    """

    def __init__(self, node: Node, deadlines: Deadlines):
        self._node = node
        self.buffer: ViewBuffer | None = None
        self._deadlines = deadlines
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="views")
        self._lock = threading.Lock()
        self._captures: list[Future[View]] = []
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(kind, name, serve, qos_profile=burst_profile(), callback_group=group)
            for kind, name, serve in (
                (CaptureView, "~/capture_view", self._capture),
                (GetView, "~/get_view", self._off_executor(self._get)),
                (ListViews, "~/list_views", self._off_executor(self._list)),
                (ReleaseViews, "~/release_views", self._off_executor(self._release)),
            )
        ]

    def deactivate(self) -> None:
        """Tells those who wait for a view that there will be none."""
        self.buffer = None
        with self._lock:
            captures, self._captures = self._captures, []
        for future in captures:
            complete(future, exception=ValueError(NOT_ACTIVE))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def on_view(self, view: View) -> None:
        """A view has been taken into the buffer: the callers that wait for the next one get it, pinned."""
        buffer = self.buffer
        if buffer is None:
            return
        with self._lock:
            captures, self._captures = self._captures, []
        for future in captures:
            if future.done():
                continue
            try:
                buffer.pin(view.view_id)
            except ValueError as error:
                complete(future, exception=error)
            else:
                complete(future, view)

    async def _capture(self, request: CaptureView.Request, response: CaptureView.Response) -> CaptureView.Response:
        if self.buffer is None:
            response.message = NOT_ACTIVE
            return response
        try:
            timeout = duration_or_none(request.timeout) or self._node.get_parameter("capture.timeout").value
            future: Future[View] = Future()
            with self._lock:
                self._captures = [capture for capture in self._captures if not capture.done()] + [future]
            self._deadlines.watch(future, time.monotonic() + timeout, f"no view within {timeout:g} s")
            view = await awaitable(future, self._node)
            response.view = await awaitable(self._pool.submit(view_to_message, view, True, True), self._node)
            response.success = True
        except (ValueError, TimeoutError) as error:
            response.message = clean_text(str(error))
        except Exception as error:
            _log.exception("capture_view failed")
            response.message = clean_text(f"{type(error).__name__}: {error}")
        return response

    def _off_executor(self, serve: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
        """A callback that runs ``serve`` in the pool, and answers whatever happens there."""

        async def callback(request: Any, response: Any) -> Any:
            try:
                return await awaitable(self._pool.submit(serve, request, response), self._node)
            except Exception as error:
                _log.exception("service failed")
                failed = type(response)()
                if hasattr(failed, "message"):
                    failed.message = clean_text(f"{type(error).__name__}: {error}")
                return failed

        return callback

    def _get(self, request: GetView.Request, response: GetView.Response) -> GetView.Response:
        buffer = self.buffer
        if buffer is None:
            response.message = NOT_ACTIVE
            return response
        view = buffer.get(request.view_id) if request.view_id else buffer.newest()
        if view is None:
            response.message = f"unknown view {request.view_id!r}" if request.view_id else "no view has arrived yet"
            return response
        # A person who looks at it may mark something in it.
        buffer.keep(view)
        try:
            response.color = _encoded_color(view)
            depth = view.depth if request.include_depth else None
            if depth is not None:
                response.depth = _encoded_depth(view, depth)
            response.view = view_to_message(view, buffer.is_pinned(view.view_id), coverage=True)
            response.success = True
        except ValueError as error:
            response.message = str(error)
        return response

    def _list(self, _: ListViews.Request, response: ListViews.Response) -> ListViews.Response:
        buffer = self.buffer
        if buffer is not None:
            response.views = [
                view_to_message(view, buffer.is_pinned(view.view_id), coverage=False) for view in buffer.views()
            ]
        return response

    def _release(self, request: ReleaseViews.Request, response: ReleaseViews.Response) -> ReleaseViews.Response:
        buffer = self.buffer
        response.count = 0 if buffer is None else buffer.release(request.view_ids)
        return response


def _encoded_color(view: View) -> CompressedImage:
    import cv2

    bgr = cv2.cvtColor(view.color, cv2.COLOR_RGB2BGR)
    return _compressed(view, "jpeg", cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])


def _encoded_depth(view: View, depth: np.ndarray) -> CompressedImage:
    import cv2

    millimetres = np.nan_to_num(depth * 1000.0, nan=0.0, posinf=0.0, neginf=0.0).round()
    # Depth beyond 16 bits becomes "no measurement", which is better than a wrong one.
    millimetres = np.where((millimetres > 0) & (millimetres <= 65535), millimetres, 0).astype(np.uint16)
    return _compressed(view, "16UC1; png compressed", cv2.imencode(".png", millimetres)[1])


def _compressed(view: View, image_format: str, data: np.ndarray) -> CompressedImage:
    header = Header(stamp=to_time(view.stamp_ns), frame_id=view.frame_id)
    return CompressedImage(header=header, format=image_format, data=data.tobytes())
