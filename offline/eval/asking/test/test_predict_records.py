"""Manipulation records are put to a model as they are."""

from __future__ import annotations

import numpy as np

from offline.eval.asking.predict import RunConfig, predict
from offline.eval.asking.predictor import ModelConfig
from offline.eval.asking.predictors import load_predictor
from offline.eval.records.samples import read_samples
from offline.eval.test.model_server import serving
from offline.files import write_json, write_picture


def test_manipulation_records_are_answered(tmp_path):
    write_picture(tmp_path / "pictures/a.png", np.zeros((18, 32, 3), np.uint8))
    turns = [{"from": "human", "value": "<image>\nWhere?"}, {"from": "gpt", "value": '{"contact_point": [[0.1, 0.2]]}'}]
    write_json(tmp_path / "r.json", [{"id": "r", "images": ["a.png"], "conversations": turns}])
    samples = read_samples(tmp_path / "r.json", tmp_path / "pictures").samples
    options = ("model=m", "convention=normalised", "attempts=1", "timeout=10")
    with serving() as server:
        predictor = load_predictor(ModelConfig("openai", url=(server.url,), options=options), ())
        summary = predict(samples, predictor, tmp_path / "p.jsonl", run=RunConfig(progress=False))
    assert summary.new == 1 and not summary.failed and not summary.unreadable
