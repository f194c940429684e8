"""The estimates against what small runs measure."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from offline.train.checkpoints import find
from offline.train.cli import main
from offline.train.dataset import collator
from offline.train.estimate import (
    PUBLISHED,
    Workload,
    activations,
    learning_parameters,
    memory,
    operations,
    size_of,
)
from offline.train.families.roborefer.loss import embed_batch, pack
from offline.train.network import load_network
from offline.train.plan import PARTS, Lora, load_plan
from offline.train.run import stage_data
from offline.train.test.test_resume import torchrun
from offline.train.test.tiny import SHAPE, write_project

SHAPES = {
    "2x2": SHAPE,
    "3x3": replace(SHAPE, projector="mlp_downsample_3x3_fix", hidden=64, heads=4, layers=3, image_size=56),
    "untied": replace(SHAPE, tied=False, kv_heads=2, tower_layers=3),
}
# Large enough that layers, not what is around them, take the memory and the time.
DEEP = replace(
    SHAPE,
    hidden=128,
    intermediate=384,
    layers=6,
    tower_hidden=96,
    tower_intermediate=256,
    tower_layers=6,
    image_size=112,
    projector="mlp_downsample_3x3_fix",
)
TRAINED = ("llm", "vision_tower", "mm_projector")


@pytest.fixture(scope="module", params=SHAPES)
def project(request, tmp_path_factory):
    return write_project(tmp_path_factory.mktemp(request.param), SHAPES[request.param])


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("deep"), DEEP)


def test_parameters_to_the_last(project):
    plan = load_plan(project)
    size = size_of(plan.model)
    network = load_network(plan, PARTS, None)
    held = {id(p): p.numel() for p in network.model.parameters()}
    assert size.parameters == sum(held.values())
    for lora, vision in ((0, True), (0, False), (4, False)):
        parts = PARTS if vision else ("llm", "mm_projector", "depth_projector")
        one = load_network(plan.model_copy(update={"lora": Lora(r=lora) if lora else None}), parts, None)
        learned = sum(p.numel() for p in one.parameters() if p.requires_grad)
        assert learning_parameters(size, Workload(lora=lora, vision=vision)) == learned


def test_model_states_of_a_plain_step_to_the_byte(project):
    plan = load_plan(project)
    network = load_network(plan, PARTS, None).train()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    data = stage_data(plan)[2]
    batch = collator(data.reader)([data["a", 0]])
    network(batch.batch, batch.supervised).backward()
    optimizer.step()
    found = memory(size_of(plan.model), Workload(zero=0, half=False), 1)
    assert found.weights == sum(p.numel() * 4 for p in network.parameters())
    learned = [p for p in network.parameters() if p.requires_grad]
    assert found.gradients == sum(p.numel() * 4 for p in learned)
    states = [v for p in learned for k, v in optimizer.state[p].items() if k != "step"]
    assert found.optimizer == sum(v.nbytes for v in states)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_activations_by_what_autograd_keeps(deep, half, recompute):
    """Within a fifth: the projector's and the packing's own are left out of the estimate."""
    plan = load_plan(deep)
    size = size_of(plan.model)
    network = load_network(plan, TRAINED, None).train()
    network = network.to(torch.bfloat16) if half else network
    if recompute:
        network.checkpoint_activations(reentrant=False)
    data = stage_data(plan)[1]
    batch = collator(data.reader)([data["b", 1]] * 4)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(batch.batch, batch.supervised)
    measured = sum(storage.nbytes() for address, storage in kept.items() if address not in weights)
    tiles = batch.tiles["vision_tower"]
    work = Workload(
        positions=batch.text + batch.visual,
        labels=batch.supervised,
        tiles=tiles,
        half=half,
        recompute=recompute,
        vision=True,
    )
    estimated = activations(size, work)
    if recompute:
        # The estimate is of the peak, where one layer is whole again; what is kept before is less.
        assert measured < estimated < 20 * measured
        return
    assert estimated == pytest.approx(measured, rel=0.2)


def test_operations_by_pytorchs_counter(deep):
    """Within a tenth: norms and rotations are no matrix products, projectors are left out."""
    plan = load_plan(deep)
    network = load_network(plan, TRAINED, None).train()
    data = stage_data(plan)[1]
    batch = collator(data.reader)([data["b", 1]])
    packed = pack(embed_batch(network.model, batch.batch))
    counter = FlopCounterMode(display=False)
    with counter:
        network(batch.batch, batch.supervised).backward()
    work = Workload(
        positions=packed.embeddings.shape[1] - 1, labels=batch.supervised, tiles=batch.tiles["vision_tower"]
    )
    assert operations(size_of(plan.model), work) == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_published_sizes():
    assert PUBLISHED["2B"].parameters == pytest.approx(2.4e9, rel=0.1)
    assert PUBLISHED["8B"].parameters == pytest.approx(8.6e9, rel=0.1)


def test_more_gpus_never_need_more(project):
    size = PUBLISHED["8B"]
    for zero in (2, 3):
        needed = [memory(size, Workload(zero=zero), count).total for count in (2, 4, 8, 16, 32, 64)]
        assert needed == sorted(needed, reverse=True)


def test_the_table(project, capsys):
    assert main(["estimate", "--size", "8B", "--gpus", "1", "8", "64"]) == 0
    said = capsys.readouterr().out
    assert "full, ZeRO-3" in said and "LoRA 16, ZeRO-2" in said and "too much" in said and "64 GPUs" in said
    assert main(["estimate", "--plan", str(project), "--gpus", "1"]) == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="DeepSpeed builds with c++")
@pytest.mark.parametrize("zero", [2, 3])
def test_states_that_two_ranks_share(tmp_path, zero):
    """What each of two ranks writes of the optimizer: master weights and Adam's two moments, by the estimate."""
    project = write_project(tmp_path)
    raw = yaml.safe_load(project.read_text()) | {"zero": zero, "precision": "bf16", "micro_batch": 1}
    raw["stages"] = [raw["stages"][2] | {"until_step": 1}]
    project.write_text(yaml.safe_dump(raw))
    torchrun(project, 2)
    plan = load_plan(project)
    expected = memory(size_of(plan.model), Workload(zero=zero, half=True), 2).optimizer
    for file in find(plan.output)[-1].glob("global_step*/*optim_states.pt"):
        assert file.stat().st_size == pytest.approx(expected, rel=0.15)
