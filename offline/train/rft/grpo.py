"""Group-relative policy optimisation as published (DeepSeekMath, arXiv:2402.03300, eq. 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# As in TRL: groups whose answers are all rewarded alike get advantages of 0.
_EPSILON = 1e-4


def advantages(rewards: torch.Tensor, scale: bool = True) -> torch.Tensor:
    """(Q, G) advantages of G answers to each of Q questions: rewards less their group's mean, over its deviation."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + _EPSILON) if scale else centred


@dataclass(frozen=True)
class TokenLoss:
    """Loss per token, and what it consists of; all (N,), without gradients but for ``loss``.

    Attributes:
        kl: estimate of the divergence from the reference (k3 of Schulman); 0 without one.
        clipped: whether the clipped ratio was taken.
    """

    loss: torch.Tensor
    kl: torch.Tensor
    clipped: torch.Tensor


def token_loss(
    current: torch.Tensor,
    sampled: torch.Tensor,
    reference: torch.Tensor | None,
    advantage: torch.Tensor,
    clip: tuple[float, float],
    kl: float,
) -> TokenLoss:
    """The clipped surrogate of each answer token, with its divergence from the reference.

    Args:
        current: (N,) log-probabilities of the tokens under the network that learns.
        sampled: (N,) those under the network that wrote them.
        reference: (N,) those under the network that it must stay near.
        advantage: (N,) of the answer that each token belongs to.
        clip: how far the ratio may leave 1, down and up.
        kl: weight of the divergence.
    """
    ratio = torch.exp(current - sampled)
    bounded = ratio.clamp(1 - clip[0], 1 + clip[1])
    loss = -torch.minimum(ratio * advantage, bounded * advantage)
    divergence = torch.zeros_like(current)
    if reference is not None:
        distance = reference - current
        divergence = torch.exp(distance) - distance - 1
        loss = loss + kl * divergence
    clipped = (ratio * advantage) > (bounded * advantage)
    return TokenLoss(loss, divergence.detach(), clipped.detach())
