"""Parameter groups: who learns at which rate."""

from __future__ import annotations

import pytest

from offline.train.engine import parameter_groups
from offline.train.network import load_network
from offline.train.plan import load_plan
from offline.train.test.tiny import write_project


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    plan = load_plan(write_project(tmp_path_factory.mktemp("engine")))
    return load_network(plan, ("llm", "mm_projector"), None)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_every_weight_is_in_one_group_and_only_embeddings_take_another_rate(network, decay, scale):
    groups, parts, scales = parameter_groups(network, decay, scale)
    assert len(groups) == len(parts) == len(scales)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    learning = {id(parameter): part for part in network.parts for _, parameter in network.learning(part)}
    assert len(held) == len(set(held)) and set(held) == set(learning)
    embeddings = network.family.language_model(network.model).get_input_embeddings().weight
    for group, part, rate in zip(groups, parts, scales, strict=True):
        for parameter in group["params"]:
            assert learning[id(parameter)] == part
            assert rate == (scale if parameter is embeddings else 1.0)
            assert group["weight_decay"] == (decay if parameter.ndim > 1 else 0.0)
