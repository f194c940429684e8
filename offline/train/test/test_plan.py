"""Plans, presets, registries and mixtures."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from offline.train.plan import (
    PARTS,
    Plan,
    Schedule,
    Stage,
    differences,
    dump_plan,
    load_plan,
    plan_of,
    preset_names,
)
from offline.train.registry import load_registry, parse_mixture, terms_of


def plan(**changes) -> Plan:
    return Plan(
        **({"model": "m", "output": "o", "data_path": "d.json", "stages": [Stage(name="s", until_step=10)]} | changes)
    )


def three_stages(**changes) -> Schedule:
    stages = [
        Stage(name="a", until_step=10, train=["depth_projector"], lr=1e-3),
        Stage(name="b", until_step=30, lr={part: 1e-5 * (i + 1) for i, part in enumerate(PARTS)}),
        Stage(name="c", until_step=50, lr=2e-5),
    ]
    return Schedule(plan(stages=stages, **changes), (10, 30, 50))


class TestPlan:
    @pytest.mark.parametrize(("key", "meant"), [("micro_bacth", "micro_batch"), ("stags", "stages"), ("xyz", "")])
    def test_a_mistyped_key_gets_a_suggestion(self, key, meant, tmp_path):
        raw = {**yaml.safe_load(dump_plan(plan())), key: 1}
        with pytest.raises(ValueError, match=rf"{key}: Extra inputs.*{f'did you mean .{meant}' if meant else ''}"):
            plan_of(raw, tmp_path, tmp_path)

    def test_round_trip(self, tmp_path):
        first = plan_of({**yaml.safe_load(dump_plan(plan()))}, tmp_path, tmp_path)
        file = tmp_path / "plan.yaml"
        file.write_text(dump_plan(first))
        assert load_plan(file) == first

    def test_relative_to_the_plan(self, tmp_path):
        (tmp_path / "plan.yaml").write_text(
            "model: m\noutput: /o\ndata_path: d.json\nstages: [{name: s, until_step: 1}]\n"
        )
        found = load_plan(tmp_path / "plan.yaml")
        assert found.model == tmp_path / "m" and str(found.output) == "/o"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"stagess": []}, "stagess: Extra inputs"),
            ({"stages": []}, "stages: .*at least 1"),
            ({"stages": [{"name": "s", "until_step": 1, "train": ["depth"]}]}, "stages.0.train.0"),
            ({"stages": [{"name": "s", "until_step": 1, "epochs": 1}]}, "either until_step or epochs"),
            ({"stages": [{"name": "s", "until_step": 1, "lr": {"llm": 1}}]}, "lr lacks depth_projector"),
            ({"stages": [{"name": n, "until_step": 5} for n in "ab"]}, "must grow"),
            ({"data_path": None}, "no mixture, and the plan no data_path"),
            ({"offload": True}, "offload needs zero"),
            ({"preset": "x3"}, "no preset 'x3'; there are curriculum"),
        ],
    )
    def test_refused(self, tmp_path, changes, message):
        raw = yaml.safe_load(dump_plan(plan())) | changes
        with pytest.raises(ValueError, match=message):
            plan_of(raw, tmp_path, tmp_path)

    def test_not_yaml(self, tmp_path):
        (tmp_path / "p.yaml").write_text("a: [")
        with pytest.raises(ValueError, match=r"p\.yaml: cannot be read as YAML"):
            load_plan(tmp_path / "p.yaml")

    @pytest.mark.parametrize("preset", preset_names())
    def test_presets(self, tmp_path, preset):
        found = plan_of({"preset": preset, "model": "m", "output": "o", "registry": "r.yaml"}, tmp_path, tmp_path)
        assert found.stages

    def test_the_recipes_of_the_report(self, tmp_path):
        raw = {"model": "m", "output": "o", "registry": "r.yaml"}
        curriculum = plan_of(raw | {"preset": "curriculum"}, tmp_path, tmp_path)
        assert [stage.until_step for stage in curriculum.stages] == [40, 100, 200]
        sft = plan_of(raw | {"preset": "run_sft_t1_x3", "batch": 8}, tmp_path, tmp_path)
        assert (sft.image_aspect_ratio, sft.model_max_length, sft.save_every, sft.batch) == ("resize", 8192, 500, 8)
        assert sft.stages[0].epochs == 2

    def test_what_may_change_on_resume(self):
        assert differences(plan(), plan(batch=32, micro_batch=2, save_every=1, workers=3)) == []
        assert differences(plan(), plan(seed=1)) == ["seed: 0 -> 1"]


class TestSchedule:
    def test_segments(self):
        segments = three_stages().segments
        assert [(s.stages, s.start, s.end) for s in segments] == [((0,), 0, 10), ((1, 2), 10, 50)]

    @given(st.integers(0, 49), st.sampled_from(PARTS), st.sampled_from(["constant", "cosine", "linear"]))
    def test_rates(self, step, part, lr_schedule):
        schedule = three_stages(lr_schedule=lr_schedule, warmup_ratio=0.1)
        stage = schedule.plan.stages[schedule.stage_at(step)]
        rate = schedule.lr(part, step)
        if part not in stage.train:
            assert rate == 0
            return
        assert 0 < rate <= stage.lr_of(part)
        if lr_schedule == "constant" and step in range(14, 50):
            assert rate == stage.lr_of(part)

    def test_cosine(self):
        schedule = Schedule(plan(stages=[Stage(name="s", until_step=100, lr=1.0)], warmup_ratio=0.0), (100,))
        rates = [schedule.lr("llm", step) for step in range(100)]
        assert rates[0] == 1 and rates[50] == pytest.approx(0.5)
        assert rates == sorted(rates, reverse=True)
        assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))

    def test_warmup(self):
        schedule = Schedule(plan(stages=[Stage(name="s", until_step=100, lr=1.0)], warmup_ratio=0.04), (100,))
        assert [schedule.lr("llm", step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


class TestRegistry:
    @pytest.fixture
    def registry(self, tmp_path):
        file = tmp_path / "datasets.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "a": {"json": "a.json"},
                    "3D_choice_qa": {"json": "/b.json", "depth_root": "depth", "weight": 0.5},
                    "thousand": {"json": "c.json", "convention": "thousand"},
                }
            )
        )
        return file

    def test_mixture(self, registry, tmp_path):
        terms = parse_mixture("3D_choice_qa*4@0.25 + a", load_registry(registry))
        assert [(t.name, t.weight, t.share) for t in terms] == [("3D_choice_qa", 2.0, 0.25), ("a", 1.0, 1.0)]
        assert terms[0].entry.depth_root == tmp_path / "depth" and terms[1].entry.depth_root is None
        assert terms == parse_mixture("a+3D_choice_qa*4@0.25", load_registry(registry))

    @pytest.mark.parametrize(
        ("mixture", "message"),
        [
            ("a+x", "no data set 'x'; there are 3D_choice_qa, a"),
            ("a+a", "named twice; write a\\*2"),
            ("a*0", "weight above 0"),
            ("a@1.5", "share in"),
            ("a+", "expected name"),
            ("a@0.5*2", "expected name"),
        ],
    )
    def test_wrong_mixtures(self, registry, mixture, message):
        with pytest.raises(ValueError, match=message):
            parse_mixture(mixture, load_registry(registry))

    def test_wrong_entries(self, tmp_path):
        (tmp_path / "r.yaml").write_text("a: {jsonn: x}\n")
        with pytest.raises(ValueError, match=r"r\.yaml: a: json"):
            load_registry(tmp_path / "r.yaml")
        (tmp_path / "r.yaml").write_text("a+b: {json: x}\n")
        with pytest.raises(ValueError, match="may not hold"):
            load_registry(tmp_path / "r.yaml")

    def test_data_path_comes_first(self, registry):
        stage = Stage(name="s", until_step=1, mixture="a")
        both = plan(registry=registry, data_path="/x/mine.json", stages=[stage], depth_folder="/d")
        (term,) = terms_of(both, stage)
        assert (term.name, str(term.entry.json_file), str(term.entry.depth_root)) == ("mine", "/x/mine.json", "/d")

    def test_one_scale_of_coordinates(self, registry):
        stage = Stage(name="s", until_step=1, mixture="a+thousand")
        with pytest.raises(ValueError, match="a: normalised, thousand: thousand"):
            terms_of(plan(registry=registry, data_path=None, stages=[stage]), stage)
