"""A run on one page: its curves, what its model answered before and after, how fast it was, and its plan."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from roboref_core.atomic import write_text
from roboref_core.geometry.camera import normalised_to_pixel
from roboref_core.prompting.answer_text import parse

from offline.eval.records.predictions import read_predictions
from offline.eval.records.samples import Sample, read_samples
from offline.files import read_picture
from offline.train.plan import Plan, dump_plan
from offline.train.run_folder import CURVE, EVALUATIONS, SUMMARY, RunFolder

_SHOWN, _WIDTH = 12, 360
_BEFORE, _AFTER, _TRUE = (230, 25, 75), (67, 99, 216), (60, 180, 75)
_SPEED = ("samples_per_second", "text_tokens_per_second", "visual_tokens_per_second", "data_wait_share", "memory_gb")
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ name }}</title>
<style>
  :root { color-scheme: light dark; --line: #8884; }
  body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; }
  table { border-collapse: collapse; font-size: .9em; } td, th { padding: .2rem .8rem; border-bottom: 1px solid
  var(--line); text-align: left; } img { max-width: 100%; } pre { overflow-x: auto; font-size: .85em; }
  .cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 1rem; }
  figure { margin: 0; } figcaption { font-size: .85em; }
</style>
<h1>{{ name }}</h1>
<p>{{ state }}</p>
{% if curve %}<img alt="loss by step" src="{{ curve }}">{% endif %}
{% for title, rows in tables %}<h2>{{ title }}</h2><table>
{% for row in rows %}<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endfor %}
{% if cases %}<h2>Answers of the base model and of step {{ last }}</h2>
<p>Red: before. Blue: after. Green: a right point.</p><div class="cases">
{% for case in cases %}<figure><img alt="" src="{{ case.picture }}"><figcaption>{{ case.asked }}<br>right:
  {{ case.right }}<br>before: {{ case.before }}<br>after: {{ case.after }}</figcaption></figure>
{% endfor %}</div>{% endif %}
<h2>Plan</h2><pre>{{ plan }}</pre>
</html>
"""


def write_summary(folder: RunFolder, plan: Plan, log: Sequence[Mapping[str, Any]], state: str) -> Path:
    """Writes ``summary.html`` of a run.

    Args:
        log: lines of ``log.jsonl``.
        state: where the run stands, in a sentence.
    """
    curve = folder.path / CURVE
    evaluated = sorted(int(line["step"]) for line in log if any(k.startswith("eval_") for k in line))
    steps = [line for line in log if "loss" in line]
    tables = [("Throughput (mean of the logged steps)", _means(steps, _SPEED))]
    if evaluated:
        tables.append(("Evaluation", list(_evaluations(log))))
    last = evaluated[-1] if len(evaluated) > 1 and evaluated[0] == 0 else 0
    page = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    text = page.render(
        name=folder.path.name,
        state=state,
        curve=_embedded(curve.read_bytes(), "png") if curve.is_file() else "",
        tables=tables,
        cases=list(_cases(folder.path, plan, last)) if last else [],
        last=last,
        plan=dump_plan(plan),
    )
    target = folder.claim(SUMMARY)
    write_text(target, text)
    return target


def _means(steps: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[str]]:
    # The first step includes what is done once.
    counted = steps[1:] or steps
    found = [(name, [line[name] for line in counted if name in line]) for name in (*names, "mfu")]
    return [[name.replace("_", " "), f"{np.mean(values):.4g}"] for name, values in found if values]


def _evaluations(log: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    lines = [line for line in log if any(name.startswith("eval_") for name in line)]
    names = sorted({name for line in lines for name in line if name.startswith("eval_")})
    yield ["step", *(name.removeprefix("eval_").replace("_", " ") for name in names)]
    for line in lines:
        yield [str(line["step"]), *(f"{line[name]:.3f}" if name in line else "" for name in names)]


def _cases(run: Path, plan: Plan, last: int) -> Iterator[dict[str, str]]:
    """Questions whose answer changed first."""
    if plan.evaluation is None:
        return
    samples = read_samples(plan.evaluation.data).samples[: plan.evaluation.samples]
    files = [run / EVALUATIONS / f"step-{step}.jsonl" for step in (0, last)]
    if not all(file.is_file() for file in files):
        return
    before, after = (
        {key: str(line.get("text")) for key, line in read_predictions(file).by_id.items()} for file in files
    )
    known = [sample for sample in samples if sample.id in before and sample.id in after]
    for sample in sorted(known, key=lambda sample: before[sample.id] == after[sample.id])[:_SHOWN]:
        right = "NOT_VISIBLE" if sample.truth is None else str([tuple(map(float, p)) for p in sample.truth])
        texts = before[sample.id], after[sample.id]
        yield {
            "picture": _embedded(_picture(sample, texts), "jpeg"),
            "asked": sample.prompt,
            "right": right,
            "before": texts[0],
            "after": texts[1],
        }


def _picture(sample: Sample, texts: tuple[str, str]) -> bytes:
    """The queried picture as JPEG, with the true point and both answers'."""
    image = read_picture(sample.images[-1])
    scale = _WIDTH / image.shape[1]
    image = cv2.resize(image, (_WIDTH, max(1, round(image.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    marks = [(_TRUE, sample.truth or ())]
    for colour, text in zip((_BEFORE, _AFTER), texts, strict=True):
        answer = parse(text)
        marks.append((colour, answer.points))
    for colour, points in marks:
        for point in points:
            u, v = normalised_to_pixel(np.array(point), image.shape[1], image.shape[0]).round().astype(int)
            cv2.circle(image, (int(u), int(v)), 6, colour, 2, cv2.LINE_AA)
    return bytes(cv2.imencode(".jpg", image[..., ::-1])[1].tobytes())


def _embedded(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def read_log(file: Path) -> list[dict[str, Any]]:
    """Lines of ``log.jsonl``; none if there is no such file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
