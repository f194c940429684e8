"""The page tells a hit from a miss, explains itself, and leads from figures to cases."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from offline.eval.records.node_answer import NodeAnswer
from offline.eval.replay.scoring import report
from offline.eval.replay.scoring.report import write_report
from offline.eval.replay.scoring.score import score
from offline.eval.replay.scoring.table import Run, table
from offline.eval.replay.scoring.test.test_score import record


def named(one, model):
    return replace(one, answer=replace(one.answer, model=model))


def make_runs(folder):
    """A run by geometry, and one by a model, which is wrong less badly."""
    cv2.imwrite(str(folder / "query.png"), np.zeros((40, 60, 3), np.uint8))
    cases = [
        record(folder, 0),
        record(folder, 1, off=0.3, pixel=(40.0, 30.0)),
        record(folder, 2, status=2),
        record(folder, 3, "occluded"),
    ]
    cases = [replace(each, files=each.files | {"query": "query.png"}) for each in cases]
    by_model = [named(each, "nano@1") for each in (cases[0], cases[1])]
    runs = []
    for name, records in (("by geometry", [named(each, "reprojection") for each in cases]), ("by model", by_model)):
        scores = score(records) | {"pairs": {"played": 1, "dropped": 0}}
        runs.append(Run(name.replace(" ", "-"), f"<b>{name}</b>", records, scores, folder))
    return runs


@pytest.fixture
def page(folder):
    write_report("cases", make_runs(folder), {"scene": "a room"}, folder / "report.html")
    return (folder / "report.html").read_text()


def test_pointing_beside_what_is_visible_is_called_a_miss(page):
    own = page[page.index('<section data-run="by-geometry">') : page.index('<section data-run="by-model">')]
    order = re.findall(r'data-outcome="([^"]*)"', own)
    assert order == ["false point", "false refusal", "miss", "hit"], "the worst first"
    assert 'data-marks="over 5 cm off|outside its ellipsoid"' in own


def test_the_page_has_contents_a_glossary_and_no_dead_link(page):
    anchors = set(re.findall(r'id="([^"]+)"', page))
    targets = re.findall(r'href="#([^"]+)"', page)
    assert set(targets) <= anchors
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert {"figures", "worst", "by-geometry", "by-model", "glossary"} == set(re.findall(r'href="#([^"]+)"', contents))
    assert "&lt;b&gt;by geometry" in page and "<b>by geometry" not in page
    for word in ("decidable", "ellipsoid", "false refusal", "query view"):
        assert word in page[page.index('id="glossary"') :]
    assert page.count("<abbr title=") > 10


def test_a_figure_leads_to_the_cases_that_make_it_worse(page):
    row = page[page.index(">Hit@Mask<") :]
    assert 'data-run="by-geometry" data-kind="miss"' in row[: row.index("</tr>")]


def test_what_a_model_got_wrong_is_looked_at_before_what_geometry_got_wrong(page):
    first = re.findall(r'<li><a href="#([a-z]+-[a-z]+)-\d+"', page)
    assert first == ["by-model", "by-geometry", "by-geometry", "by-geometry"]


def test_a_picture_is_there_once(page):
    assert page.count("data:image/jpeg;base64,") == 1
    assert page.count('<article id="') == 6


def test_a_page_that_would_be_too_large_leaves_right_answers_out_and_says_so(folder, monkeypatch):
    monkeypatch.setattr(report, "MOST_BYTES", 1000)
    write_report("cases", make_runs(folder), {}, folder / "report.html")
    text = (folder / "report.html").read_text()
    assert 'data-outcome="hit"' not in text and 'data-outcome="miss"' in text
    assert "Right answers are left out" in text
    assert json.loads((folder / "report.json").read_text())["runs"]["by-model"]["questions"] == 2


def test_errors_are_shown_with_their_code(folder):
    (first, *_), _ = make_runs(folder)[0].records, None
    failed = replace(first, answer=NodeAnswer.from_message({"status": 5, "error_code": 17009, "error_msg": "<busy>"}))
    run = Run("one", "", [failed], score([failed]) | {"pairs": {"played": 1, "dropped": 0}}, folder)
    write_report("cases", [run], {}, folder / "report.html")
    text = (folder / "report.html").read_text()
    assert "BUSY: &lt;busy&gt;" in text
    assert [row.cells for row in table([run]) if row.name == "errors"] == [["1 BUSY"]]
