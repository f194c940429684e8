"""Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) in float32.

``torch.optim.Muon`` makes its updates in bfloat16. Processors without such instructions emulate them: there, it took
44 % of the time of a training step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

# A quintic that pushes every singular value in (0, 1] towards 1 in five rounds, though not quite to it.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """(B, M, N) matrices with the same singular vectors and singular values near 1, by Newton-Schulz iteration."""
    flat = matrices.shape[1] <= matrices.shape[2]
    wide = matrices if flat else matrices.mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), wide, beta=_A)
    return wide if flat else wide.mT


class Muon(torch.optim.Optimizer):
    """For matrices: steps along the orthogonalised momentum, of the size that AdamW's would have (arXiv:2502.16982)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no line search
        for group in self.param_groups:
            # All of one shape at once: on a GPU, small products cost the time to start them.
            by_shape: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append((p, p.grad))
            for shape, pairs in by_shape.items():
                for p, gradient in pairs:
                    self.state[p].setdefault("momentum", torch.zeros_like(p)).lerp_(gradient, 1 - group["momentum"])
                ahead = [gradient.lerp(self.state[p]["momentum"], group["momentum"]) for p, gradient in pairs]
                own = [p for p, _ in pairs]
                updates = orthogonalised(torch.stack(ahead)).unbind()
                torch._foreach_mul_(own, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(own, updates, alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)
