"""`roboref eval zeroshot`: the four validation files, one model, one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro
from roboref_core.command_line import ExitStatus

from offline.eval.asking.predict import RunConfig, predict
from offline.eval.asking.predictor import ModelConfig, Predictor
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.show import ShowConfig
from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import SampleFile, read_samples
from offline.eval.reporting.report import Section, section, summary, write_report
from offline.eval.reporting.table import markdown
from offline.files import write_bytes

FILES = ("t1_val_multi", "t1_val_concat", "t2a_val_multi", "t2b_val_multi")


def read_files(folder: Path, names: Sequence[str], limit: int | None) -> list[SampleFile]:
    """The named files of a folder, the first ``limit`` samples of each. Raises ValueError for the first missing one."""
    files = [read_samples(folder / f"{name}.json") for name in names]
    return [replace(data, samples=data.samples[:limit]) for data in files]


def run(
    data: SampleFile, predictor: Predictor, out: Path, show: ShowConfig, work: RunConfig, scenes: Path | None
) -> tuple[Section, bool]:
    """Predict one file into ``out``, and judge it; whether every sample was answered."""
    done = predict(data.samples, predictor, out, show, replace(work, limit=None))
    print(f"{out}: {done}", file=sys.stderr)
    return section(data, [read_predictions(out)], scenes), not (done.failed or done.unreadable)


@dataclass(frozen=True)
class ZeroShot:
    """The four validation files, one model, one table (the report's run_zeroshot_x3).

      roboref eval zeroshot --tasks-dir tasks --backend roborefer --path checkpoints/2b --out out/zeroshot

    Writes predictions, scores, summary.md and report.html to the folder. Run again, it goes on where it was.
    """

    model: tyro.conf.OmitArgPrefixes[ModelConfig]
    tasks_dir: Path
    """Folder with t1_val_multi.json, t1_val_concat.json, t2a_val_multi.json and t2b_val_multi.json."""
    out: Path = Path("out/zeroshot")
    """Folder for everything that comes out."""
    files: tuple[str, ...] = FILES
    """Which of them, by name without ".json"."""
    cases: int = 24
    """Most cases shown of each outcome in the report."""
    show: tyro.conf.OmitArgPrefixes[ShowConfig] = field(default_factory=ShowConfig)
    run: tyro.conf.OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)

    def __call__(self) -> ExitStatus:
        files = read_files(self.tasks_dir, self.files, self.run.limit)
        predictor = load_predictor(self.model, files[0].samples)
        results = [
            run(data, predictor, self.out / f"{data.name}.jsonl", self.show, self.run, self.model.scenes)
            for data in files
        ]
        sections = [one for one, _ in results]
        text = markdown(*summary(sections))
        write_bytes(self.out / "summary.md", f"{text}\n".encode())
        write_report(f"Zero-shot: {predictor.name}", sections, self.out / "report.html", self.cases)
        print(f"{text}\n\n{self.out / 'report.html'}")
        return ExitStatus.DONE if all(complete for _, complete in results) else ExitStatus.BAD
