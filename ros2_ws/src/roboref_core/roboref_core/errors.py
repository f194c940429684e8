"""Errors that a question can end with, each with the code that its asker receives."""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """Set only with Status.ERROR. 0-9999 belong to Nav2; the lowest code wins where several are reported."""

    NONE = 0
    UNKNOWN = 17000
    NOT_ACTIVE = 17001
    INVALID_QUERY = 17002
    NO_VIEW = 17003
    VIEW_NOT_FOUND = 17004
    VIEW_STALE = 17005
    CAMERA_INFO_INVALID = 17006
    IMAGE_INVALID = 17007
    TF_ERROR = 17008
    BUSY = 17009
    OUT_OF_MEMORY = 17010
    INFERENCE_FAILED = 17011
    UNPARSABLE_ANSWER = 17012
    TIMEOUT = 17013
    CANCELED = 17014
    CLOCK_MISMATCH = 17015


class ReferError(Exception):
    """A question that cannot be answered, with the code and the text that its asker receives."""

    def __init__(self, code: ErrorCode, message: str):
        super().__init__(message)
        self.code = code
