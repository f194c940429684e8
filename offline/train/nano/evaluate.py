"""How good the small model is: rooms it has never seen, through the data engine, predict and score.

python -m offline.train.nano.evaluate --model ros2_ws/src/roboref_core/roboref_core/models/nano/model
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from roboref_core.atomic import replacing_folder
from roboref_core.seeds import rng_of

from offline.data_engine.build_command import Build
from offline.data_engine.tasks.expressions import could_be_meant
from offline.eval.asking.predict import RunConfig, predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.show import ShowConfig
from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.reporting.report import section, summary, write_report
from offline.eval.reporting.table import markdown
from offline.eval.scoring import calibrate
from offline.eval.scoring.intervals import Share
from offline.eval.scoring.judge import Judged
from offline.eval.scoring.metrics import balanced_accuracy, decision_shares
from offline.files import read_json, write_bytes, write_json
from sim.rooms.generate import GenerateConfig, generate

FILES = ("t1_val_multi", "t1_val_concat", "t2a_val_multi", "t2b_val_multi", "referring_val")
# Rooms of training and tuning pools have seeds of a million and more.
_TUNING_ROOMS, _TUNING_SAMPLES = 24, 400


@dataclass(frozen=True)
class Config:
    """Evaluate a small model.

    Attributes:
        model: the checkpoint; its calibration is fitted again, on separate rooms.
        out: scans, data, predictions, report.html and figures.json.
        seed: of the first room.
        rooms: to report on.
        frames: of each room's walk.
        samples: most of each task.
        depth: show depth pictures too.
        workers: processes of the data engine.
    """

    model: Path
    out: Path = Path("out/nano/eval")
    seed: int = 6000
    rooms: int = 190
    frames: int = 60
    samples: int = 1200
    depth: bool = False
    workers: int = 1


def make_data(folder: Path, seed: int, rooms: int, frames: int, samples: int, workers: int) -> list[SampleFile]:
    """Rooms through the data engine; of each task at most so many samples, without grid. Kept for the next time.

    Raises ValueError if rooms could not be built, or those that were kept are not as many.
    """
    if (folder / "tasks").exists():
        kept = len(list((folder / "scans").glob("scene*")))
        if kept != rooms:
            raise ValueError(f"{folder} holds {kept} rooms, not {rooms}: choose another --out")
    else:
        generate(
            GenerateConfig(
                out=folder / "scans", seed=seed, scenes=rooms, frames=frames, triangles=40_000, contact_sheet=False
            )
        )
        if Build(scans=folder / "scans", out=folder / "data", validation_share=1.0, workers=workers)():
            raise ValueError(f"{folder}: some rooms could not be built, see above")
        with replacing_folder(folder / "tasks") as tasks:
            for name in FILES:
                (source,) = (folder / "data").rglob(f"{name}.json")
                found = [sample for sample in read_json(source) if not sample["grid"]]
                chosen = rng_of("nano-eval", name).permutation(len(found))[:samples]
                write_json(tasks / f"{name}.json", [found[k] for k in sorted(chosen)])
    return [read_samples(folder / "tasks" / f"{name}.json") for name in FILES]


def is_unique(data: SampleFile, scenes: Path) -> dict[str, bool]:
    """Sample id -> whether nothing else that may be in the queried picture could be taken for its target."""
    facts: dict[str, dict] = {}
    found = {}
    for sample in data.samples:
        scene = (sample.extra.get("visibility") or {}).get("query_scene", sample.scene)
        if scene not in facts:
            (file,) = scenes.rglob(f"{scene}/scene.json")
            facts[scene] = json.loads(file.read_text())
        objects = facts[scene]["objects"]
        frame = facts[scene]["frames"].get(str(sample.extra["query_frame"]))
        if frame is None:
            continue
        rivals = [
            uid
            for uid, seen in frame["objects"].items()
            if uid != str(sample.extra.get("uid"))
            and not seen["certainly_hidden"]
            and could_be_meant(sample.label, objects[uid]["label"])
        ]
        found[sample.id] = not rivals
    return found


def by_uniqueness(judged: Judged, unique: dict[str, bool]) -> dict[str, dict]:
    """Hit@Mask of visible targets, with Wilson intervals, for unique ones and for those with a rival."""
    found = {}
    for name, wanted in (("unique", True), ("duplicate", False)):
        own = np.array([unique.get(sample.id) is wanted for sample in judged.samples], dtype=bool)
        found[name] = decision_shares(judged.of(own))["hit_at_mask"].to_json()
    return found


def by_wording(judged: Judged) -> dict[str, dict]:
    """Of referring expressions, for those that name a kind and no more, and those that tell a relation too: how often
    visible things are pointed at and others refused."""
    relation = np.array([sample.relation for sample in judged.samples])
    plain = np.isin(relation, ("unique", "absent"))
    found = {}
    for name, own in (("kind alone", plain), ("with a relation", ~plain & (relation != ""))):
        decided = judged.of(own)
        balanced = balanced_accuracy(decided)
        if balanced is not None:
            visible = decided.visible
            found[name] = {
                "pointed": Share(int(decided.pointed[visible].sum()), int(visible.sum())).to_json(),
                "refused": decision_shares(decided)["not_visible_recall"].to_json(),
                "balanced_accuracy": balanced,
            }
    return found


def evaluate(config: Config) -> dict:
    """Fits the calibration, predicts, scores; writes and returns the figures."""
    tuning = make_data(
        config.out / "tuning", config.seed - 100, _TUNING_ROOMS, config.frames, _TUNING_SAMPLES, config.workers
    )
    data = make_data(config.out, config.seed, config.rooms, config.frames, config.samples, config.workers)
    kind, show = ("rgbd" if config.depth else "rgb"), ShowConfig(depth=config.depth)
    model = ModelConfig("roborefer", path=str(config.model))
    bare = replace(model, options=("calibrated=false",))
    folder = config.out / "tuning"
    fitted_on = [
        (
            read_predictions(_predict(bare, show, each, folder / f"{kind}_{each.name}.jsonl")),
            folder / "tasks" / f"{each.name}.json",
        )
        for each in tuning
    ]
    fitted = calibrate.fit(fitted_on, calibrate.model_name(config.model))
    # Only now is there a whole new one to take the place of the old.
    calibrate.calibration.save(fitted, config.model)
    sections, figures = [], {"calibration": fitted.model_dump(), "tasks": {}}
    for each in data:
        predictions = read_predictions(_predict(model, show, each, config.out / f"{kind}_{each.name}.jsonl"))
        sections.append(section(each, [predictions], config.out / "scans"))
        judged = sections[-1].judged[predictions.name]
        figures["tasks"][each.name] = {
            "scores": sections[-1].scores,
            "by_uniqueness": by_uniqueness(judged, is_unique(each, config.out / "data")),
            "by_wording": by_wording(judged),
        }
    write_json(config.out / f"{kind}_figures.json", figures)
    text = markdown(*summary(sections))
    write_bytes(config.out / f"{kind}_summary.md", f"{text}\n".encode())
    write_report("roboref-nano in rooms it has never seen", sections, config.out / f"{kind}_report.html", 24)
    print(text)
    return figures


def _predict(model: ModelConfig, show: ShowConfig, data: SampleFile, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    done = predict(data.samples, load_predictor(model, data.samples), out, show, RunConfig())
    print(f"{out}: {done}", file=sys.stderr)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    config = tyro.cli(Config, args=argv, description=__doc__)
    try:
        evaluate(replace(config, model=config.model.resolve()))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
