"""A buffer, views of the room in it, and models that say what they are told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from roboref_core.views.view_buffer import SECOND, ViewBuffer, ViewBufferConfig

# pytest's importlib mode does not find what lies beside a test.
sys.path.insert(0, str(Path(__file__).parent))


class Answering:
    """A PointingModel that says what it is told, for what happens around a model."""

    name = "told"

    def __init__(self, *predictions):
        self.predictions = list(predictions)
        self.requests = []

    def predict(self, request):
        self.requests.append(request)
        prediction = self.predictions.pop(0) if len(self.predictions) > 1 else self.predictions[0]
        if isinstance(prediction, BaseException):
            raise prediction
        return prediction


@pytest.fixture
def answering():
    """``answering(prediction, ...)`` makes a model that gives one after the other, the last one for ever."""
    return Answering


@pytest.fixture
def buffer():
    return ViewBuffer(ViewBufferConfig(sharpness_window=1, min_interval=0.0, max_interval=0.5))


@pytest.fixture
def add(room, buffer):
    """``add(T_world_camera, seconds)`` puts a view of the room, or of ``seen``, into the buffer and returns it.

    T_world_camera of None is a view without a pose.
    """

    def add(T, seconds, seen=room, **fields):
        known = np.eye(4) if T is None else T
        view = seen.view(known, view_id=buffer.next_id(), stamp_ns=int(seconds * SECOND), **fields)
        if T is None:
            view = view.with_pose(None)
        buffer.add(view)
        return view

    return add
