"""The processes of a run: who this one is, where it computes, and what all of them agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run, as torchrun's environment says.

    Attributes:
        rank: of this process.
        world: number of processes.
        device: where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes what one process writes."""
        return self.rank == 0

    def barrier(self) -> None:
        if self.world > 1:
            distributed.barrier()

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes; changes ``value``."""
        if self.world > 1:
            distributed.all_reduce(value)
        return value


def world_size() -> int:
    """Processes of this run."""
    return int(os.environ.get("WORLD_SIZE", 1))


def join(sharded: bool) -> Ranks:
    """Connects this process with the others, once.

    Args:
        sharded: DeepSpeed is used, which needs a process group for a single process, too.
    """
    rank, world = int(os.environ.get("RANK", 0)), world_size()
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not distributed.is_initialized():
        if "MASTER_ADDR" in os.environ:
            distributed.init_process_group(backend)
        elif sharded:
            distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
    return Ranks(rank, world, device)
