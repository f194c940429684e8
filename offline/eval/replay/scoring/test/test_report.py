"""The page tells a hit from a miss."""

from __future__ import annotations

import cv2
import numpy as np

from offline.eval.replay.scoring.report import Run, write_report
from offline.eval.replay.scoring.score import score
from offline.eval.replay.scoring.test.test_score import record


def test_pointing_beside_what_is_visible_is_called_missed(folder):
    cv2.imwrite(str(folder / "query.png"), np.zeros((40, 60, 3), np.uint8))
    records = [record(0), record(1, pixel=(40.0, 30.0)), record(2, status=2)]
    for each in records:
        each["question"] |= {"text": "the mug", "mark": None}
        each["answer"] |= {"error_msg": "", "raw_answer": ""}
        each["files"]["query"] = "query.png"
        for target in each["answer"]["targets"]:
            target["covariance_type"] = 0
    scores = score(records, folder) | {"pairs": {"played": 1, "dropped": 0}}
    write_report("cases", [Run("one", "", records, scores, folder)], {}, folder / "report.html")
    page = (folder / "report.html").read_text()
    found = [page.count(f'<div class="case" data-outcome="{kind}"') for kind in ("missed", "pointed", "false refusal")]
    assert found == [1, 1, 1]
    assert page.index('"case" data-outcome="missed"') < page.index('"case" data-outcome="pointed"')
