"""`roboref eval calibrate`: make p_visible a probability, from predictions on a validation file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from roboref_core.models.roborefer import calibration
from roboref_core.models.roborefer.backend import RoboReferBackend
from tyro.conf import Positional

from offline.eval.records.predictions import Predictions, read_predictions
from offline.eval.records.samples import Sample, read_samples

_FEWEST = np.exp(-50.0)


def log_odds(predictions: Predictions, samples: Sequence[Sample]) -> Iterator[tuple[float, bool]]:
    """Log-odds of pointing, as the model itself has them, and whether a point was right; samples without are left out.

    Raises ValueError if they were calibrated already.
    """
    for sample in samples:
        line = predictions.by_id.get(sample.id)
        if line is None or line.get("p_visible") is None:
            continue
        if line.get("p_visible_calibrated"):
            raise ValueError(
                f"{predictions.name}, sample {sample.id}: p_visible went through a calibration already; "
                "predict again with --options calibrated=false"
            )
        p = float(line["p_visible"])
        yield float(np.log(max(p, _FEWEST)) - np.log(max(1.0 - p, _FEWEST))), sample.truth is not None


def fit(files: Sequence[tuple[Predictions, Path]], model: str) -> calibration.Calibration:
    """Fits on predictions and the data files that they answer.

    Args:
        model: name with revision of the checkpoint.

    Raises ValueError for predictions of another model, or too few of either kind.
    """
    pairs: list[tuple[float, bool]] = []
    for predictions, data in files:
        if predictions.name != model:
            raise ValueError(f"{data}: predictions of {predictions.name}, the checkpoint is {model}")
        pairs += log_odds(predictions, read_samples(data).samples)
    odds, visible = (np.array(column) for column in zip(*pairs, strict=True)) if pairs else (np.empty(0), np.empty(0))
    return calibration.fit(odds, visible, model)


@dataclass(frozen=True)
class Calibrate:
    """Make p_visible a probability, from predictions on a validation file.

      roboref eval calibrate val.jsonl --data t1_val_multi.json --path checkpoints/2b

    Fits a temperature and a bias (Platt) and stores them beside the checkpoint, where every user of it finds them.
    Files that are scored afterwards must not be those that were fitted on.
    """

    predictions: Positional[tuple[Path, ...]]
    """Predictions of this checkpoint, made with --options calibrated=false; one file per data file."""
    data: tuple[Path, ...]
    """The samples that they answer, in the same order."""
    path: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """The checkpoint. A calibration that it has is replaced when the new one is fitted."""

    def __call__(self) -> None:
        if len(self.predictions) != len(self.data):
            raise ValueError(f"{len(self.predictions)} predictions files for {len(self.data)} data files")
        files = [(read_predictions(path), data) for path, data in zip(self.predictions, self.data, strict=True)]
        fitted = fit(files, model_name(self.path))
        calibration.save(fitted, self.path)
        print(
            f"{self.path}: temperature {fitted.temperature:.3f}, bias {fitted.bias:+.3f}, {fitted.samples} questions; "
            f"negative log-likelihood {fitted.nll_before:.3f} -> {fitted.nll_after:.3f} nat"
        )


def model_name(checkpoint: Path) -> str:
    """Name with revision of a checkpoint, whatever calibration lies beside it: that may belong to other weights."""
    return RoboReferBackend.load(checkpoint, calibrated=False).name
