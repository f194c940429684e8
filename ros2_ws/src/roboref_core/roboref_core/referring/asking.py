"""Requests put to a model; what goes wrong there becomes a ReferError with its code."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.pointing_model import BatchPointingModel, PointingModel, PointingRequest, Prediction
from roboref_core.views.view import ImageError

_log = logging.getLogger(__name__)


def predict(model: PointingModel, request: PointingRequest) -> Prediction:
    """Raises ReferError and ImageError; everything else a model may raise is one of them."""
    try:
        return model.predict(request)
    except (ReferError, ImageError):
        raise
    except MemoryError as error:
        raise ReferError(ErrorCode.OUT_OF_MEMORY, f"{model.name}: {error}") from error
    except Exception as error:
        _log.exception("%s failed", model.name)
        raise ReferError(ErrorCode.INFERENCE_FAILED, f"{model.name}: {type(error).__name__}: {error}") from error


def predict_all(
    model: PointingModel, requests: list[PointingRequest]
) -> Iterator[Prediction | ReferError | ImageError]:
    """Predictions in the order of the requests, together if the model can; one that fails does not spoil the others."""
    if len(requests) > 1 and isinstance(model, BatchPointingModel):
        try:
            yield from model.predict_batch(requests)
            return
        except Exception as error:
            if isinstance(error, ReferError) and error.code in (ErrorCode.CANCELED, ErrorCode.TIMEOUT):
                raise
            _log.info("asked one after the other, as together failed: %s", error)
    for request in requests:
        try:
            yield predict(model, request)
        except (ReferError, ImageError) as error:
            yield error
