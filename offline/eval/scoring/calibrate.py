"""`roboref eval calibrate`: make p_visible a probability, from predictions on a validation file.

    roboref eval calibrate val.jsonl --data t1_val_multi.json --path checkpoints/2b

Fits a temperature and a bias (Platt) and stores them beside the checkpoint, where every user of it finds them. Files
that are scored afterwards must not be those that were fitted on.
"""

from __future__ import annotations

import sys
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


@dataclass(frozen=True)
class Config:
    """Calibrate a RoboRefer checkpoint.

    Attributes:
        predictions: of this checkpoint, one file per data file.
        data: the samples that they answer, in the same order.
        path: the checkpoint. A calibration that it has is replaced.
    """

    predictions: Positional[tuple[Path, ...]]
    data: tuple[Path, ...]
    path: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]


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
                f"remove {calibration.FILE_NAME} from the checkpoint and predict again"
            )
        p = float(line["p_visible"])
        yield float(np.log(max(p, _FEWEST)) - np.log(max(1.0 - p, _FEWEST))), sample.truth is not None


def calibrate(config: Config) -> calibration.Calibration:
    """Fits and stores. Raises ValueError for predictions of another model, or too few of either kind."""
    if len(config.predictions) != len(config.data):
        raise ValueError(f"{len(config.predictions)} predictions files for {len(config.data)} data files")
    # Its old calibration, if any, may belong to other weights: that is no reason not to fit anew.
    (config.path / calibration.FILE_NAME).unlink(missing_ok=True)
    name = RoboReferBackend.load(config.path).name
    pairs: list[tuple[float, bool]] = []
    for file, data in zip(config.predictions, config.data, strict=True):
        predictions = read_predictions(file)
        if predictions.name != name:
            raise ValueError(f"{file}: predictions of {predictions.name}, the checkpoint is {name}")
        pairs += log_odds(predictions, read_samples(data).samples)
    odds, visible = (np.array(column) for column in zip(*pairs, strict=True)) if pairs else (np.empty(0), np.empty(0))
    fitted = calibration.fit(odds, visible, name)
    calibration.save(fitted, config.path)
    return fitted


def main(argv: list[str]) -> int:
    config = tyro.cli(Config, args=argv, prog="roboref eval calibrate", description=__doc__)
    try:
        fitted = calibrate(config)
    except (ValueError, OSError) as error:
        print(f"roboref eval calibrate: {error}", file=sys.stderr)
        return 1
    print(
        f"{config.path}: temperature {fitted.temperature:.3f}, bias {fitted.bias:+.3f}, {fitted.samples} questions; "
        f"negative log-likelihood {fitted.nll_before:.3f} -> {fitted.nll_after:.3f} nat"
    )
    return 0
