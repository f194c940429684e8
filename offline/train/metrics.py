"""Where a run's figures go: ``log.jsonl`` always, TensorBoard and Weights & Biases if the plan says so."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from offline.train.plan import Plan
from offline.train.run_folder import LOG, TENSORBOARD

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


def check_reporting(plan: Plan) -> None:
    """Raises ValueError naming the package that ``report_to`` needs and that is not installed."""
    for name in plan.report_to:
        try:
            importlib.import_module(_PACKAGES[name])
        except ImportError as error:
            raise ValueError(
                f"report_to: {name} cannot be imported ({error}): pip install {_PACKAGES[name]}, or leave it out of "
                "report_to; log.jsonl is written anyway"
            ) from error


class MetricLog:
    """Writes figures by step; only the first rank has one."""

    def __init__(self, plan: Plan):
        check_reporting(plan)
        self._file = plan.output / LOG
        self._board: Any = None
        self._wandb: Any = None
        if "tensorboard" in plan.report_to:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(plan.output / TENSORBOARD))
        if "wandb" in plan.report_to:
            import wandb

            self._wandb = wandb.init(
                project="roboref",
                name=plan.output.name,
                id=plan.output.name,
                resume="allow",
                dir=str(plan.output),
                config=plan.model_dump(mode="json"),
            )

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """One line of the log; names that begin with "eval_" are the evaluation's, others the training's."""
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        named = {_tag(name): value for name, value in figures.items()}
        if self._board is not None:
            for tag, value in named.items():
                self._board.add_scalar(tag, value, step)
            self._board.flush()
        if self._wandb is not None:
            self._wandb.log(named, step=step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def _tag(name: str) -> str:
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
