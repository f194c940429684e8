"""The report is one whole page that needs nothing else and shows every kind of case."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from offline.eval.cli import main
from offline.eval.records.outcomes import Outcome
from offline.eval.records.samples import read_samples
from offline.eval.reporting.report import gather
from offline.eval.test.small_data import FILES, SmallData, answer_line

VOID = {"meta", "img", "link", "br", "line", "circle", "rect", "polyline"}


class Page(HTMLParser):
    """Collects elements, and fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert [tag for tag in self.open if tag != "html"] == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four files, and answers of two models to them with every outcome; one model's are spread over files."""
    folder = tmp_path_factory.mktemp("report")
    small = SmallData(folder, objects=14, scenes=4)
    rng = np.random.default_rng(0)
    for name in FILES:
        samples = read_samples(small.write(name)).samples
        for model in ("base", "tuned <&>"):
            lines = [{"kind": "run", "run": model, "model": model, "model_hash": model}]
            for k, s in enumerate(samples):
                right = s.extra["conversations"][1]["value"]
                text = (right, "NOT_VISIBLE", "[(0.5, 0.5)]", "<b>nowhere</b>")[(0, 0, 1, 2, 3)[k % 5]]
                if k % 11 != 10:
                    lines.append(answer_line(s.id, text, p_visible=float(rng.random())))
            path = folder / f"{model[:4]}_{name}.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_page(folder):
    predictions = sorted(str(p) for p in folder.glob("*.jsonl"))
    data = [str(folder / f"{name}.json") for name in FILES]
    assert main(["report", *predictions, "--data", *data, "--out", str(folder / "report.html"), "--cases", "3"]) == 0
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert not re.search(r'(src|href)="(?!data:)', text) and "url(" not in text
    assert "<b>nowhere</b>" not in text and "&lt;b&gt;nowhere" in text, "what models write is not markup"
    shown = {attrs["data-outcome"] for attrs in page.all("div") if "data-outcome" in attrs}
    assert shown == set(Outcome) - {Outcome.NO_MASK, Outcome.ERROR, Outcome.UNDECIDABLE}
    images = page.all("img")
    assert len(images) > 60
    for attrs in images[:: len(images) // 10]:
        data = base64.b64decode(attrs["src"].removeprefix("data:image/jpeg;base64,"))
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[1] == 400
    assert len(page.all("svg")) >= 4 * 3
    for word in (*FILES, "base", "never_visible", "image_centre", "random_prior", "Hit@Mask", "calibration"):
        assert word in text
    figures = json.loads((folder / "report.json").read_text())
    assert set(figures) == set(FILES)
    assert figures["t1_val_multi"]["base"]["overall"]["figures"]["correct"]["value"] > 0


def test_files_of_one_model_are_joined_unless_they_answer_the_same(folder, tmp_path):
    joined = gather([folder / "base_t1_val_multi.jsonl", folder / "base_t2b_val_multi.jsonl"])
    assert [one.name for one in joined] == ["base"]
    again = tmp_path / "base_again.jsonl"
    again.write_bytes((folder / "base_t1_val_multi.jsonl").read_bytes())
    assert [one.name for one in gather([folder / "base_t1_val_multi.jsonl", again])] == ["base", "base_again"]


def test_pictures_that_are_gone_are_told(folder, tmp_path):
    small = SmallData(tmp_path, objects=4, scenes=2)
    path = small.write("t1_val_multi")
    samples = read_samples(path).samples
    lines = [answer_line(s.id, "NOT_VISIBLE") for s in samples]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for picture in tmp_path.rglob("*_original.png"):
        picture.unlink()
    assert main(["report", str(tmp_path / "p.jsonl"), "--data", str(path), "--out", str(tmp_path / "r.html")]) == 0
    assert "cannot be read" in (tmp_path / "r.html").read_text()


def test_zero_shot_table_has_every_file_and_baseline(folder, tmp_path, capsys):
    arguments = [
        "zeroshot",
        "--tasks-dir",
        str(folder),
        "--backend",
        "image_centre",
        "--out",
        str(tmp_path),
        "--no-progress",
    ]
    assert main(arguments) == 0
    table = (tmp_path / "summary.md").read_text()
    rows = [line for line in table.splitlines() if "val_" in line]
    assert len(rows) == 4 * 3 and all(sum(name in row for row in rows) == 3 for name in FILES)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    assert len(before) == 4 and main(arguments) == 0
    assert {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
    capsys.readouterr()
    assert main([*arguments, "--tasks-dir", str(tmp_path)]) == 2
    assert "t1_val_multi.json" in capsys.readouterr().err
