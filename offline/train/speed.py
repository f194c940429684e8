"""How fast a run is: samples and tokens per second, waiting for data, model FLOPs utilisation, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence

import torch
from torch import distributed

from offline.train.dataset import TrainBatch
from offline.train.network import Network


class FlopCounter:
    """Floating-point operations that a batch takes by the model's own arithmetic: 2 per weight and token forward, 2
    for the gradient of activations, 2 for that of weights where they learn, plus attention. Recomputation does not
    count, as usual for model FLOPs utilisation (PaLM, appendix B).
    """

    def __init__(self, network: Network):
        self._costs = network.family.costs(network.model)
        self._learns = {part: bool(network.learning(part)) for part in self._costs}
        self._sees = any(network.learning(part) for part in network.parts if part != "llm")

    def of(self, batch: TrainBatch) -> float:
        llm = self._costs["llm"]
        tokens = batch.text + batch.visual
        passes = 2 + 2 * (self._learns["llm"] or self._sees) + 2 * self._learns["llm"]
        attention = 2 * llm.layers * llm.hidden * tokens / batch.samples
        # Only label tokens go through the head.
        total = passes * ((llm.weights + attention) * tokens + llm.head * batch.supervised)
        for name, tiles in batch.tiles.items():
            tower = self._costs[name]
            per_position = tower.weights + 2 * tower.layers * tower.hidden * tower.positions
            total += (6 if self._learns[name] else 2) * tiles * tower.positions * per_position
        return total


class SpeedMeter:
    """Sums between two reports, over all ranks.

    Args:
        peak_tflops: of one device; 0 leaves utilisation out.
    """

    def __init__(self, network: Network, peak_tflops: float, device: torch.device):
        self._flops = FlopCounter(network)
        self._peak, self._device = peak_tflops * 1e12, device
        self._reset()

    def _reset(self) -> None:
        self._start = time.perf_counter()
        self._sums = [0.0] * 5

    def add(self, batches: Sequence[TrainBatch], waited: float) -> None:
        """``waited`` seconds for these batches."""
        for batch in batches:
            counts = (batch.samples, batch.text, batch.visual, self._flops.of(batch), 0.0)
            self._sums = [a + b for a, b in zip(self._sums, counts, strict=True)]
        self._sums[4] += waited

    def report(self) -> dict[str, float]:
        """Figures since the last report. All ranks must call it."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds = max(time.perf_counter() - self._start, 1e-9)
        sums, world = torch.tensor(self._sums, dtype=torch.float64, device=self._device), 1
        if distributed.is_initialized():
            distributed.all_reduce(sums)
            world = distributed.get_world_size()
        samples, text, visual, flops, waited = sums.tolist()
        figures = {
            "samples_per_second": samples / seconds,
            "text_tokens_per_second": text / seconds,
            "visual_tokens_per_second": visual / seconds,
            "data_wait_share": waited / world / seconds,
            "model_tflops_per_device": flops / world / seconds / 1e12,
            "memory_gb": self._memory(),
        }
        if self._peak:
            figures["mfu"] = flops / world / seconds / self._peak
        self._reset()
        return figures

    def _memory(self) -> float:
        """Peak so far [GB]: of the device, on a CPU of the process."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e9
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def parameter_table(network: Network) -> list[tuple[str, int, int]]:
    """(part, parameters, of which learn) for each part of the model."""
    return [
        (part, sum(p.numel() for _, p in held), sum(p.numel() for _, p in network.learning(part)))
        for part, held in network.held.items()
        if held
    ]
