"""The processes that train together. One process is the usual case; several sum their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed

Item = TypeVar("Item")


class World:
    """This process's place among those of `torch.distributed`, or alone."""

    def __init__(self) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.size = distributed.get_world_size() if joined else 1

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's part of an update's micro-batches, which were made for the whole world."""
        return items[self.rank :: self.size]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Gradients are summed, not averaged: each loss term is already divided by its count over all ranks.

        A parameter without gradient on every rank keeps none: an optimiser must not count a step that was no step.
        """
        if self.size == 1:
            return
        parameters = list(parameters)
        present = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
        distributed.all_reduce(present, op=distributed.ReduceOp.MAX)
        for parameter, anywhere in zip(parameters, present.tolist(), strict=True):
            if not anywhere:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Sums named numbers over all ranks; every rank must give the same names."""
        if self.size == 1:
            return values
        names = sorted(values)
        tensor = torch.tensor([values[name] for name in names], dtype=torch.float64)
        distributed.all_reduce(tensor)
        return dict(zip(names, tensor.tolist(), strict=True))
