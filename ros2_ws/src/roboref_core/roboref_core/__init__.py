"""RoboRef: where is *that*? Metric 3D answers to referring expressions and marks, from posed RGB-D views.

    from roboref_core import MarkedPoint, Query, answer, load_model
    query = Query("that mug", regions=(MarkedPoint((412.0, 233.0), view.view_id),))
    found = answer(query, buffer, load_model("reprojection"))    # one question, without ROS
    found.targets[0].position, found.targets[0].covariance       # [m], [m^2]

Names below are imported when they are first used: the base needs numpy alone, models need PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Name -> module that defines it.
_EXPORTS = {
    "Answer": "roboref_core.referring.answer",
    "Camera": "roboref_core.geometry.camera",
    "ErrorCode": "roboref_core.errors",
    "MarkedBox": "roboref_core.referring.query",
    "MarkedPoint": "roboref_core.referring.query",
    "MarkedPosition": "roboref_core.referring.query",
    "MarkedRegion": "roboref_core.referring.query",
    "Query": "roboref_core.referring.query",
    "ReferError": "roboref_core.errors",
    "Status": "roboref_core.referring.answer",
    "Target": "roboref_core.referring.answer",
    "View": "roboref_core.views.view",
    "ViewBuffer": "roboref_core.views.view_buffer",
    "answer": "roboref_core.referring.refer",
    "load_model": "roboref_core.models.registry",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
