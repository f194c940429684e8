"""Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) in float32.

``torch.optim.Muon`` makes its updates in bfloat16. Processors without such instructions emulate them: there, it took
44 % of the time of a training step.
"""
from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

# A quintic that pushes every singular value in (0, 1] towards 1 in five rounds, though not quite to it.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """(M, N) matrix with the same singular vectors and singular values near 1, by Newton-Schulz iteration."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), wide, beta=_A)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


class Muon(torch.optim.Optimizer):
    """For matrices: steps along the orthogonalised momentum, of the size that AdamW's would have (arXiv:2502.16982)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalised(p.grad.lerp(momentum, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)
