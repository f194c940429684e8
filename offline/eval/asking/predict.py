"""`roboref eval predict`: every sample is put to a model, once, and each answer kept as it came."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, TypeVar

import tyro
from roboref_core.command_line import ExitStatus, Stopped
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.vision_language_model import Generation
from roboref_core.progress import Progress

from offline.eval.asking.predictor import ModelConfig, Predictor, Question
from offline.eval.asking.predictors import load_predictor
from offline.eval.asking.shards import Shard
from offline.eval.asking.show import ShowConfig, Shower, Shown
from offline.eval.records.predictions import PredictionLog, digest, prediction_line
from offline.eval.records.samples import Sample, read_samples

In = TypeVar("In")
Out = TypeVar("Out")
# Failures in a row after which there is no model to talk to any more.
_HOPELESS = 20


@dataclass(frozen=True)
class RunConfig:
    """How the work is done. Nothing here changes an answer.

    Attributes:
        batch: samples per call of the model.
        loaders: threads that read pictures ahead of the model.
        limit: only the first so many samples.
        progress: show a progress bar with the time left.
    """

    batch: int = 8
    loaders: int = 2
    limit: int | None = None
    progress: bool = True


@dataclass
class Summary:
    """What a run did: answers there already, new ones, and shared ones; bytes of an unfinished line that were cut off;
    samples that could not be shown, and on which the model failed, with the reason."""

    kept: int = 0
    new: int = 0
    shared: int = 0
    repaired: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.new} predicted", f"{self.kept} were there before"]
        if self.shared:
            parts.append(f"{self.shared} ask what was asked before and share its answer")
        if self.repaired:
            parts.append(f"an unfinished line of {self.repaired} bytes was cut off")
        for what, where in (("could not be shown", self.unreadable), ("failed", self.failed)):
            if where:
                name, text = next(iter(where.items()))
                parts.append(f"{len(where)} {what} (e.g. {name}: {text})")
        return "; ".join(parts)


class Gone(Stopped):
    """The model fails on everything: there is no use in going on now."""


def predict(
    samples: Iterable[Sample],
    predictor: Predictor,
    out: Path,
    show: ShowConfig | None = None,
    run: RunConfig | None = None,
) -> Summary:
    """Answer every sample that ``out`` has no answer of, appending to it in the order of the samples.

    Samples whose pictures, prompt and model are the same share one answer. A sample that cannot be read is left
    out, and one on which the model fails is tried again by the next run; both are in the summary.

    Raises:
        ValueError: ``out`` belongs to another model or process.
        Gone: the model failed 20 times in a row; what was answered is kept.
    """
    show, run = show or ShowConfig(), run or RunConfig()
    samples = tuple(samples)[: run.limit]
    shower = Shower(show, predictor)
    facts = {
        "model": predictor.name,
        "model_hash": digest(predictor.identity),
        "identity": predictor.identity,
        "show": shower.settings,
        **_environment(),
    }
    run_hash = digest(facts)
    with (
        PredictionLog(out, facts["model_hash"]) as log,
        Progress(total=len(samples), unit="sample", desc=f"{predictor.name}"[:40], disable=not run.progress) as bar,
    ):
        if run_hash not in log.runs:
            log.append({"kind": "run", "run": run_hash, **facts})
        return _Run(predictor, shower, log, run_hash, run, bar).work(samples)


class _Run:
    """One pass over the samples. Only the calling thread writes to the log."""

    def __init__(self, predictor: Predictor, shower: Shower, log: PredictionLog, run_hash: str, run: RunConfig, bar):
        self._predictor, self._shower, self._log, self._hash, self._config = predictor, shower, log, run_hash, run
        self._bar = bar
        self._waiting: dict[str, list[Question]] = {}
        self._failures_in_a_row = 0
        self._summary = Summary(repaired=log.repaired)

    def work(self, samples: tuple[Sample, ...]) -> Summary:
        loaders = ThreadPoolExecutor(self._config.loaders, thread_name_prefix="load")
        models = ThreadPoolExecutor(self._predictor.workers, thread_name_prefix="predict")
        with loaders, models:
            try:
                shown = _ahead(loaders, self._shower.show, samples, 2 * self._config.batch * self._predictor.workers)
                batches = _batches(self._new(shown), self._config.batch)
                for batch, answers in _ahead(models, self._answer, batches, self._predictor.workers + 1):
                    self._write(batch, answers)
            except BaseException:
                loaders.shutdown(wait=False, cancel_futures=True)
                models.shutdown(wait=False, cancel_futures=True)
                raise
        return self._summary

    def _new(self, shown: Iterable[Shown]) -> Iterator[tuple[str, Question]]:
        """What the model must be asked: neither answered before nor under way."""
        for sample, key, question, error in shown:
            if question is None:
                self._summary.unreadable[sample.id] = error
            elif self._log.latest.get(sample.id) == key:
                self._summary.kept += 1
            elif key in self._log.keys:
                self._share(sample, self._log.line(key))
            elif key in self._waiting:
                self._waiting[key].append(question)
                continue
            else:
                self._waiting[key] = [question]
                yield key, question
                continue
            self._bar.update()

    def _share(self, sample: Sample, line: dict) -> None:
        self._log.append({**line, "id": sample.id, "asked": digest(sample.prompt)})
        self._summary.shared += 1

    def _answer(self, batch: list[tuple[str, Question]]) -> tuple[list, list[Generation | ReferError]]:
        """A batch that fails is taken apart, so that one sample does not cost the others their answers."""
        questions = [question for _, question in batch]
        try:
            return batch, list(self._predictor.predict(questions))
        except ReferError as error:
            if len(batch) == 1:
                return batch, [error]
        return batch, [self._answer([pair])[1][0] for pair in batch]

    def _write(self, batch: list[tuple[str, Question]], answers: list[Generation | ReferError]) -> None:
        for (key, _), answer in zip(batch, answers, strict=True):
            for i, question in enumerate(self._waiting.pop(key)):
                sample = question.sample
                if isinstance(answer, ReferError):
                    self._failed(sample, answer)
                elif i == 0:
                    line = prediction_line(sample.id, key, digest(sample.prompt), self._hash, answer)
                    self._log.append(line)
                    self._summary.new += 1
                    self._failures_in_a_row = 0
                else:
                    self._share(sample, self._log.line(key))
                self._bar.update()

    def _failed(self, sample: Sample, error: ReferError) -> None:
        self._summary.failed[sample.id] = f"{ErrorCode(error.code).name}: {error}"
        # An unanswerable question says nothing about the model's state.
        self._failures_in_a_row += error.code != ErrorCode.INVALID_QUERY
        if self._failures_in_a_row >= _HOPELESS:
            raise Gone(f"{self._failures_in_a_row} failures in a row, the last: {error}") from error


def _batches(items: Iterable[In], size: int) -> Iterator[list[In]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(pool: Executor, work: Callable[[In], Out], items: Iterable[In], depth: int) -> Iterator[Out]:
    """``map`` in order that takes no more than ``depth`` items beyond the one that is waited for."""
    under_way: deque[Future[Out]] = deque()
    for item in items:
        under_way.append(pool.submit(work, item))
        if len(under_way) > depth:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _environment() -> dict:
    """Versions, and the revision of this repository, for the record."""
    versions = {"python": platform.python_version()}
    for package in ("roboref", "numpy", "torch", "transformers", "opencv-python-headless"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "git": git_revision()}


def git_revision() -> str | None:
    """This repository's commit, with "-dirty" where files differ from it; None outside of git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


@dataclass(frozen=True)
class Predict:
    """Put every sample to a model, once, and keep each answer as it came.

      roboref eval predict --backend roborefer --path checkpoints/2b --data t1_val_multi.json --out t1.jsonl
      roboref eval predict --backend openai --url http://a:8000 http://b:8000 --options model=qwen ...

    Stop it at any time, by any means, and run it again: it goes on where it was.
    """

    model: tyro.conf.OmitArgPrefixes[ModelConfig]
    data: Annotated[Path, tyro.conf.arg(metavar="FILE.json")]
    """The samples."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.jsonl")]
    """Predictions, JSON lines; one file per model and data."""
    image_root: Path | None = None
    """What relative picture paths start from; by default the folder of the data."""
    shard: str = ""
    """i/n: answer only part i of n, into a file of its own beside --out (t1.jsonl: t1.2of8.jsonl); see `merge`."""
    show: tyro.conf.OmitArgPrefixes[ShowConfig] = field(default_factory=ShowConfig)
    run: tyro.conf.OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)

    def __call__(self) -> ExitStatus:
        shard = Shard.parse(self.shard) if self.shard else None
        data = read_samples(self.data, self.image_root)
        samples = data.samples[: self.run.limit]
        predictor = load_predictor(self.model, samples)
        for kind, count in data.problems.items():
            print(f"{self.data}: {count} samples left out: {kind} ({data.examples[kind]})", file=sys.stderr)
        out = self.out if shard is None else shard.path(self.out)
        own = samples if shard is None else shard.of(samples, self.run.batch)
        summary = predict(own, predictor, out, self.show, replace(self.run, limit=None))
        print(f"{out}: {summary}")
        return ExitStatus.BAD if summary.failed or summary.unreadable else ExitStatus.DONE
