"""What can go wrong with this model, each with a class of its own. The model stays usable after all of them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from roboref_core.errors import ErrorCode, ReferError


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the text names the part and the file."""


class PromptTooLongError(ReferError):
    """The prompt with its pictures leaves no room for an answer in the model's context."""

    def __init__(self, length: int, limit: int):
        super().__init__(
            ErrorCode.INVALID_QUERY,
            f"prompt of {length} positions (text and picture features) does not fit the context of {limit} "
            f"with room for an answer",
        )


class NonFiniteLogitsError(ReferError):
    """The model put out NaN or infinity."""

    def __init__(self, where: str):
        super().__init__(ErrorCode.INFERENCE_FAILED, f"non-finite logits {where}")


class DeviceOutOfMemoryError(ReferError):
    """The device or the host ran out of memory during inference."""

    def __init__(self, detail: str):
        super().__init__(ErrorCode.OUT_OF_MEMORY, f"out of memory during inference: {detail}")


@contextmanager
def report_out_of_memory() -> Iterator[None]:
    """Turns torch's ways of running out of memory into DeviceOutOfMemoryError, and lets go of what was computed."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch.OutOfMemoryError is a RuntimeError; the CPU allocator has no class of its own.
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "DefaultCPUAllocator" not in str(error):
            raise
        # The frames below would keep their tensors for as long as somebody holds the error.
        traceback.clear_frames(error.__traceback__)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        raise DeviceOutOfMemoryError(str(error).partition("\n")[0] or "host memory") from error
