"""The real metrics on a small held-out set, during training: the saved model, loaded as everybody loads it."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

from offline.eval.asking.predict import RunConfig, predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import read_samples
from offline.eval.scoring.metrics import FIGURES
from offline.eval.scoring.score import score_file
from offline.files import read_json, write_json
from offline.train.plan import Evaluation
from offline.train.run_folder import BEST, EVALUATIONS


@dataclass(frozen=True)
class Evaluator:
    """Answers and scores ``config.data`` with each saved model.

    Attributes:
        config: what is answered.
        run: the run's folder; predictions and scores go to ``eval/``, the best step to ``best.json``.
        backend, options: with which the models answer.
    """

    config: Evaluation
    run: Path
    backend: str
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.config.metric not in FIGURES:
            raise ValueError(f"evaluation: no figure {self.config.metric!r}; there are {', '.join(sorted(FIGURES))}")

    def evaluate(self, model: Path, step: int) -> dict[str, float]:
        """Figures of a checkpoint's model, as "eval_<figure>". Step 0 is the base model: never the best checkpoint."""
        data = read_samples(self.config.data)
        samples = data.samples[: self.config.samples]
        config = ModelConfig(self.backend, path=str(model), options=self.options, name=f"step-{step}")
        predictor = load_predictor(config, samples)
        out = self.run / EVALUATIONS / f"step-{step}.jsonl"
        predict(samples, predictor, out, run=RunConfig(progress=False))
        del predictor
        gc.collect()
        chosen = type(data)(data.name, samples, data.problems, data.examples)
        scores = score_file(read_predictions(out), chosen, with_floor=False)
        write_json(out.with_suffix(".json"), scores)
        found = {
            name: figure["value"]
            for name, figure in scores["overall"]["figures"].items()
            if isinstance(figure, dict) and isinstance(figure.get("value"), (int, float))
        }
        if step:
            self._note_best(step, found)
        return {f"eval_{name}": float(value) for name, value in found.items()}

    def _note_best(self, step: int, found: dict[str, float]) -> None:
        value = found.get(self.config.metric)
        if value is None:
            raise ValueError(
                f"{self.config.data}: {self.config.metric} cannot be told from its samples; there are "
                f"{', '.join(sorted(found))}"
            )
        best = read_json(self.run / BEST) if (self.run / BEST).is_file() else None
        if best is None or best["step"] == step or value > best["value"]:
            write_json(self.run / BEST, {"step": step, "metric": self.config.metric, "value": value})


def best_step(run: Path) -> int | None:
    """Step of the best evaluated checkpoint; None without evaluations."""
    file = run / BEST
    return int(read_json(file)["step"]) if file.is_file() else None
