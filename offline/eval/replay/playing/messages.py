"""ROS messages as plain dictionaries, for JSON."""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np


def to_plain(message: Any) -> Any:
    """Any rosidl message, field by field: dictionaries, lists, numbers and strings; NaN and infinity become None."""
    if hasattr(message, "get_fields_and_field_types"):
        return {name: to_plain(getattr(message, name)) for name in message.get_fields_and_field_types()}
    if isinstance(message, np.ndarray | array | list | tuple):
        return [to_plain(item) for item in message]
    if isinstance(message, bytes):
        return list(message)
    if isinstance(message, float | np.floating):
        return float(message) if math.isfinite(message) else None
    return message.item() if isinstance(message, np.generic) else message
