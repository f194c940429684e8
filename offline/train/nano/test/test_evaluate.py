"""The rooms of nano's report, and that kept ones are what was asked for."""

from __future__ import annotations

import json
import shutil

import pytest
from roboref_core.models.nano import CHECKPOINT
from roboref_core.models.roborefer import calibration

from offline.eval.records.samples import read_samples
from offline.eval.test.small_data import SmallData
from offline.train.nano import evaluate as module
from offline.train.nano.evaluate import Config, evaluate, make_data


def test_kept_rooms_of_another_number_are_refused(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "scans" / "scene6000_00").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds 1 rooms, not 2: choose another --out"):
        make_data(tmp_path, 6000, 2, 4, 5, 1)


@pytest.mark.parametrize("fails", [True, False])
def test_the_calibration_is_replaced_only_by_a_whole_one(tmp_path, monkeypatch, fails):
    model = tmp_path / "model"
    shutil.copytree(CHECKPOINT, model)
    before = (model / calibration.FILE_NAME).read_bytes()
    data = read_samples(SmallData(tmp_path / "data", objects=10, scenes=5).write("t1_val_multi"))
    (tmp_path / "out/tuning/tasks").mkdir(parents=True)
    shutil.copy(tmp_path / "data/t1_val_multi.json", tmp_path / "out/tuning/tasks")
    monkeypatch.setattr(module, "make_data", lambda *_: [data])
    asked = []

    def answer(config, show, data, out):
        asked.append(config.options)
        assert (model / calibration.FILE_NAME).read_bytes() == before or "calibrated=false" not in config.options
        if fails:
            raise ValueError("stopped in the middle")
        name = {"kind": "run", "run": "r", "model": module.calibrate.model_name(model)}
        lines = [{"id": s.id, "text": "", "p_visible": 0.6 if s.truth else 0.3, "run": "r"} for s in data.samples]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(json.dumps(line) + "\n" for line in [name, *lines]))
        return out

    monkeypatch.setattr(module, "_predict", answer)
    monkeypatch.setattr(module, "section", lambda *_: (_ for _ in ()).throw(ValueError("after fitting")))
    with pytest.raises(ValueError, match="stopped in the middle" if fails else "after fitting"):
        evaluate(Config(model, out=tmp_path / "out"))
    after = (model / calibration.FILE_NAME).read_bytes()
    assert (after == before) is fails
    assert asked[0] == ("calibrated=false",)
    assert fails or calibration.Calibration.model_validate_json(after).samples == len(data.samples)
