"""The shared prefill gives what single rows give; drawing; whole runs that resume to the bit."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.answer_text import parse

from offline.train import checkpoints
from offline.train.check import check
from offline.train.dataset import collator
from offline.train.families.roborefer.examples import IGNORE
from offline.train.families.roborefer.loss import batch_loss
from offline.train.families.roborefer.policy import RoboReferPolicy, answer_logits
from offline.train.network import load_network
from offline.train.plan import Plan, Reinforcement, load_plan
from offline.train.run import run, stage_data
from offline.train.test.test_resume import child, figures, torchrun, weights
from offline.train.test.tiny import write_project

STAGE = {"name": "s", "mixture": "a", "until_step": 4, "train": ["llm", "mm_projector"], "lr": 1e-3}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    plan = write_project(tmp_path_factory.mktemp("rft"))
    raw = yaml.safe_load(plan.read_text()) | {"stages": [STAGE], "save_every": 1, "keep": 9}
    plan.write_text(yaml.safe_dump(raw | {"rft": {"group": 3, "max_new_tokens": 40, "constrained": True}}))
    file = plan.parent / "a" / "data.json"
    file.write_text(json.dumps([sample for sample in json.loads(file.read_text()) if sample.get("image")]))
    return plan


@pytest.fixture(scope="module")
def loaded(project):
    """Network, and a micro-batch of questions with different pictures and lengths."""
    plan = load_plan(project)
    data = stage_data(plan)[0]
    batch = collator(data.reader)([data["a", index] for index in range(3)])
    return load_network(plan, ("llm", "mm_projector"), None).eval(), data, batch


def rngs(questions: int, group: int, seed: int = 0) -> list[list[np.random.Generator]]:
    return [[np.random.default_rng([seed, q, g]) for g in range(group)] for q in range(questions)]


def test_the_loss_of_the_datas_own_answers_is_the_supervised_one(loaded):
    network, _, batch = loaded
    rows = zip(batch.batch.input_ids, batch.batch.labels, strict=True)
    answers = [[tuple(ids[labels != IGNORE].tolist())] for ids, labels in rows]
    logits, tokens = answer_logits(network.model, batch.batch, answers)
    loss = torch.nn.functional.cross_entropy(logits, tokens)
    torch.testing.assert_close(loss, batch_loss(network.model, batch.batch), rtol=1e-5, atol=1e-5)


def test_answers_of_a_question_do_not_see_each_other(loaded):
    """Logits and gradients of several answers behind one prefill, against each alone."""
    network, _, batch = loaded
    answers = [[(5, 9, 17), (200, 3), (5, 9, 17, 40)], [(7,), (8, 8), (9, 9, 9)], [(30, 31), (31, 30), (5, 5)]]
    together, tokens = answer_logits(network.model, batch.batch, answers)
    network.zero_grad()
    together.log_softmax(-1).gather(1, tokens[:, None]).sum().backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    alone = []
    for g in range(3):
        logits, own = answer_logits(network.model, batch.batch, [[row[g]] for row in answers])
        logits.log_softmax(-1).gather(1, own[:, None]).sum().backward()
        alone.append(logits.detach().split([len(row[g]) for row in answers]))
    singles = torch.cat([alone[g][q] for q in range(3) for g in range(3)])
    torch.testing.assert_close(together.detach(), singles, rtol=1e-4, atol=1e-5)
    for name, parameter in network.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)
    network.zero_grad()


def test_what_is_drawn_has_the_probabilities_that_are_optimised(loaded):
    """The tree of the decoder and the training pass agree on every token's distribution."""
    network, _, batch = loaded
    policy = RoboReferPolicy(network.model, Reinforcement(group=4, max_new_tokens=6, temperature=0.7))
    answers = policy.draw(batch.batch, rngs(3, 4))
    logs, entropies = policy.log_probabilities(batch.batch, answers)
    assert len(logs) == sum(len(answer) for own in answers for answer in own)
    assert (logs < 0).all() and (entropies > 0).all()
    assert len({answer for own in answers for answer in own}) > 4
    assert answers == policy.draw(batch.batch, rngs(3, 4)), "the same generators draw the same"
    cold = RoboReferPolicy(network.model, Reinforcement(group=2, max_new_tokens=6, temperature=1e-4))
    (drawn, again), *_ = cold.draw(batch.batch, rngs(3, 2))
    logits, tokens = answer_logits(network.model, batch.batch, [[a] for a, _ in cold.draw(batch.batch, rngs(3, 2))])
    assert drawn == again and torch.equal(logits.argmax(-1), tokens), "without heat, the likeliest"


def test_frequencies_of_the_first_token(loaded):
    """A thousand draws against the softmax, by a bound of five standard deviations."""
    network, data, _ = loaded
    batch = collator(data.reader)([data["a", 0]])
    policy = RoboReferPolicy(network.model, Reinforcement(group=1000, max_new_tokens=1, constrained=True))
    (answers,) = policy.draw(batch.batch, rngs(1, 1000))
    counts = Counter(answer[0] for answer in answers)
    for token, count in counts.items():
        logs, _ = policy.log_probabilities(batch.batch, [[(token,)]])
        share = float(logs.detach().exp())
        assert abs(count / 1000 - share) < 5 * np.sqrt(share * (1 - share) / 1000) + 1e-9


def test_constrained_answers_are_all_of_the_grammar(loaded):
    network, _, batch = loaded
    policy = RoboReferPolicy(network.model, Reinforcement(group=16, max_new_tokens=40, constrained=True))
    answers = policy.draw(batch.batch, rngs(3, 16))
    texts = [policy.text(answer) for own in answers for answer in own]
    assert not [text for text in texts if parse(text).outcome is Outcome.UNPARSABLE]
    logs, _ = policy.log_probabilities(batch.batch, answers)
    assert torch.isfinite(logs).all()
    ends = np.cumsum([len(answer) for own in answers for answer in own]) - 1
    assert (logs[ends] == 0).all(), "the end was not drawn"


def finished(plan: Plan) -> tuple[list[dict], dict[str, bytes]]:
    run(plan)
    return outcome(plan)


def outcome(plan: Plan) -> tuple[list[dict], dict[str, bytes]]:
    """The figures of every step, and the weights at the end."""
    lines = [json.loads(line) for line in (plan.output / "log.jsonl").read_text().splitlines()]
    kept = ("step", "loss", "grad_norm", "kl", "entropy", "reward", "answer_length")
    return [{key: line[key] for key in kept} for line in lines], weights(plan.output)


@pytest.mark.parametrize("changes", [{}, {"updates": 2, "constrained": False, "average": "token", "scale": False}])
def test_a_run_that_was_cut_resumes_to_the_bit(project, tmp_path, changes):
    raw = yaml.safe_load(project.read_text())["rft"] | changes
    whole = finished(load_plan(project, {"output": str(tmp_path / "whole"), "rft": raw}))
    assert [line["step"] for line in whole[0]] == [1, 2, 3, 4]
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "model")
    for folder in checkpoints.find(tmp_path / "cut")[2:]:
        shutil.rmtree(folder)
    assert finished(load_plan(project, {"output": str(tmp_path / "cut"), "rft": raw})) == whole


def test_a_killed_run_resumes_to_the_bit(project, tmp_path):
    """SIGKILL before and after a checkpoint: answers are drawn, rewarded and learned from again, all alike."""
    whole, killed = ({"output": str(tmp_path / name), "save_every": 3} for name in ("whole", "killed"))
    assert child(project, whole) == 0
    assert child(project, killed, 2) == -signal.SIGKILL and not checkpoints.find(tmp_path / "killed")
    assert child(project, killed, 3) == -signal.SIGKILL
    assert [folder.name for folder in checkpoints.find(tmp_path / "killed")] == ["checkpoint-3"]
    assert child(project, killed) == 0
    assert outcome(load_plan(project, killed)) == outcome(load_plan(project, whole))


def test_it_learns_what_is_rewarded(project, tmp_path):
    """Decisions alone are rewarded: after some steps, the same questions earn more."""
    rewards = {"format": 0, "decision": 1, "hit": 0, "distance": 0, "process": 0}
    rft = {"group": 8, "constrained": True, "max_new_tokens": 40, "kl": 0.0, "rewards": rewards}
    stage = STAGE | {"until_step": 12, "lr": 3e-3}
    plan = load_plan(project, {"output": str(tmp_path / "run"), "rft": rft, "stages": [stage], "save_every": 100})
    lines, _ = finished(plan)
    earned = [line["reward"] for line in lines]
    assert np.mean(earned[-3:]) > np.mean(earned[:3]) + 0.1


def test_the_divergence_is_zero_at_first_and_then_grows(project, tmp_path):
    lines, _ = finished(load_plan(project, {"output": str(tmp_path / "run")}))
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-9) and lines[-1]["kl"] > 0


def test_what_cannot_be_rewarded_is_named_by_check(project, tmp_path):
    plan = load_plan(project, {"stages": [STAGE | {"mixture": "c"}]})
    errors = check(plan, samples=2, with_model=False).errors
    assert any("c/data.json" in error and "no image" in error for error in errors)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 2])
def test_two_processes(project, tmp_path, zero):
    """The same answers are drawn by two ranks, and learned from alike."""
    lines, _ = finished(load_plan(project, {"output": str(tmp_path / "one"), "micro_batch": 1}))
    raw = yaml.safe_load(project.read_text())
    raw |= {"output": str(tmp_path / "two"), "model": str(project.parent / "base"), "micro_batch": 1, "zero": zero}
    raw["registry"] = str(project.parent / "datasets.yaml")
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(raw))
    torchrun(tmp_path / "plan.yaml", 2)
    for here, there in zip(figures(tmp_path / "two"), lines, strict=True):
        assert here["loss"] == pytest.approx(there["loss"], rel=1e-3, abs=1e-5)
        assert here["grad_norm"] == pytest.approx(there["grad_norm"], rel=1e-2)


def test_sharded_weights_are_refused(project):
    """Ranks draw answers of different lengths, and would wait for each other's weights for ever."""
    with pytest.raises(ValueError, match="zero: 0 or 2"):
        load_plan(project, {"zero": 3})
