"""How fast a run is: samples and tokens per second, waiting for data, model FLOPs utilisation, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence

import torch
from roboref_core.models.roborefer.model import RoboReferModel
from torch import distributed

from offline.train.dataset import TrainBatch
from offline.train.network import Network


class FlopCounter:
    """Floating-point operations that a batch takes by the model's own arithmetic: 2 per weight and token forward, 2
    for the gradient of activations, 2 for that of weights where they learn, plus attention. Recomputation does not
    count, as usual for model FLOPs utilisation (PaLM, appendix B).
    """

    def __init__(self, network: Network):
        model = network.model
        self._model = model
        embedding = model.llm.model.embed_tokens.weight
        head = 0 if model.config.llm.tie_word_embeddings else embedding.numel()
        weights = sum(p.numel() for p in model.llm.parameters()) - embedding.numel() - head
        # Only label tokens go through the head.
        self._llm, self._head = weights, embedding.numel()
        self._learns = {part: bool(network.learning(part)) for part in ("llm", "vision_tower", "depth_tower")}
        self._sees = any(network.learning(part) for part in network.parts if part != "llm")

    def of(self, batch: TrainBatch) -> float:
        llm = self._model.config.llm
        tokens = batch.text + batch.visual
        passes = 2 + 2 * (self._learns["llm"] or self._sees) + 2 * self._learns["llm"]
        mean_length = tokens / batch.samples
        attention = 2 * llm.num_hidden_layers * llm.hidden_size * mean_length
        total = passes * ((self._llm + attention) * tokens + self._head * batch.supervised)
        for kind, pictures in (("image", batch.batch.images), ("depth", batch.batch.depths)):
            own = kind == "depth" and self._model.depth_tower is not None
            total += self._tower("depth_tower" if own else "vision_tower", sum(len(tiles.pixels) for tiles in pictures))
        return total

    def _tower(self, name: str, tiles: int) -> float:
        if not tiles:
            return 0.0
        config = getattr(self._model.config, name)
        vision = self._model.part(name).vision_model
        layer = self._model.config.root.mm_vision_select_layer
        count = layer if layer >= 0 else len(vision.encoder.layers) + 1 + layer
        weights = sum(p.numel() for block in vision.encoder.layers[:count] for p in block.parameters())
        patches = config.grid**2
        passes = 6 if self._learns[name] else 2
        return passes * tiles * patches * (weights + 2 * count * config.hidden_size * patches)


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
    model: RoboReferModel = network.model
    return [
        (part, sum(p.numel() for p in getattr(model, part).parameters()),
         sum(p.numel() for _, p in network.learning(part)))
        for part in model.config.parts
    ]  # fmt: skip
