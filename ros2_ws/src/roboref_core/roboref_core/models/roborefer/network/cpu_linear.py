"""Linear layers for the CPU that keep their weights in oneDNN's blocked layout.

torch's own float32 linear repacks the weights for each call, which for the few rows of a decoding
pass takes as long as the product: ten rows cost 1.9 ms instead of 1.0 ms for 2816 x 1024 weights on one
AVX-512 core. These are the operators that torch's inductor emits for frozen weights.
"""

from __future__ import annotations

import torch
from torch import nn

_DTYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Module):
    """``linear`` for inference on the CPU; its weights are taken over, not copied."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()
        linear.register_parameter("weight", None)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch has the operators for such a model, and this processor the arithmetic."""
    operators = ("_reorder_linear_weight", "_linear_pointwise")
    return (
        device.type == "cpu"
        and dtype in _DTYPES
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in operators)
        # oneDNN lays bfloat16 out for AVX-512 and its like alone.
        and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def pack_linears(module: nn.Module, keep: nn.Module) -> None:
    """Replaces the linear layers of a model, one at a time: no more than one is held twice.

    The model can neither be trained nor saved afterwards.

    Args:
        keep: a layer to leave as it is, because something else uses its weight.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child is not keep:
                setattr(parent, name, PackedLinear(child))
