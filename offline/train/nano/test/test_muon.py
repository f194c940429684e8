from __future__ import annotations

import pytest
import torch

from offline.train.nano.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_singular_values_come_near_one(shape):
    scales = torch.tensor([7.0, 0.1])[:, None, None]
    matrices = torch.randn((2, *shape), generator=torch.Generator().manual_seed(1)) * scales
    for matrix, found in zip(matrices, orthogonalised(matrices), strict=True):
        u, values, v = torch.linalg.svd(matrix, full_matrices=False)
        new = torch.diagonal(u.T @ found @ v.T)
        # The smallest are lifted only part of the way.
        well = values > 0.1 * values.max()
        assert ((new[well] > 0.6) & (new[well] < 1.3)).all()


def test_steps_are_those_of_torch():
    """Up to its bfloat16."""
    random = torch.Generator().manual_seed(2)
    ours, theirs = (torch.nn.Parameter(torch.ones(48, 96)) for _ in range(2))
    stock = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    mine = Muon([ours], lr=0.01, weight_decay=0.1)
    for _ in range(4):
        ours.grad = torch.randn(48, 96, generator=random)
        theirs.grad = ours.grad.clone()
        mine.step()
        stock.step()
    moved = theirs.detach() - 1
    assert torch.linalg.norm(ours.detach() - theirs.detach()) < 0.02 * torch.linalg.norm(moved)
