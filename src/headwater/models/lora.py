"""LoRA: a frozen model learns through thin matrices beside its own (Hu et al., 2021).

`adapt` puts adapters in, training moves them alone, `merge` adds them to the weights they stand beside; what is saved is
always a plain model. `without_adapters` is the model as it was, on the same weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from headwater.errors import UserError
from headwater.models.attention import Attention
from headwater.models.heads import LanguageModelHead
from headwater.models.model import Model
from headwater.models.settings import LoraSettings


class LoraLinear(nn.Linear):
    """W x + b + alpha/rank · up(down x). The weight and the bias are those of the map it stands for, not copies."""

    def __init__(self, plain: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.scale = alpha / rank
        self.lora_down = nn.Parameter(plain.weight.new_empty(rank, plain.in_features))
        self.lora_up = nn.Parameter(plain.weight.new_zeros(plain.out_features, rank))

    def initialise(self, generator: torch.Generator) -> None:
        """down ~ N(0, 1/in_features), up = 0: at first the map is what it was."""
        nn.init.normal_(self.lora_down, std=self.in_features**-0.5, generator=generator)
        nn.init.zeros_(self.lora_up)

    def forward(self, states: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features]."""
        change = functional.linear(functional.linear(states, self.lora_down), self.lora_up)
        return super().forward(states) + self.scale * change

    def plain(self) -> nn.Linear:
        """The map without its adapter, on the same weights."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        plain.weight, plain.bias = self.weight, self.bias
        return plain


def adapt(model: Model, settings: LoraSettings, seed: int) -> Model:
    """Puts adapters beside the linear maps of the blocks and freezes all else but a head that is not over the
    vocabulary; changes the model itself and returns it.

    Raises UserError where the model has adapters already or no such maps.
    """
    if any(True for _ in adapters(model)):
        raise UserError("The model has adapters already: merge them before others are put in.")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    if not isinstance(model.head, LanguageModelHead):
        model.head.requires_grad_(True)
    count = 0
    for parent in model.backbone.modules():
        if settings.maps == "attention" and not isinstance(parent, Attention):
            continue
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                adapter = LoraLinear(child, settings.rank, settings.alpha)
                adapter.initialise(generator)
                setattr(parent, name, adapter)
                count += 1
    if not count:
        raise UserError("LoRA needs the linear maps of a Transformer, and this model has none: leave `lora` out.")
    return model


def adapters(model: nn.Module) -> Iterator[tuple[nn.Module, str, LoraLinear]]:
    """Every adapter with the module it is in and its name there."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, LoraLinear):
                yield parent, name, child


@torch.no_grad()
def merge(model: Model) -> Model:
    """Adds each adapter to its weight, W + alpha/rank · up · down, and takes it out; all is trainable again."""
    for parent, name, adapter in list(adapters(model)):
        adapter.weight += adapter.scale * adapter.lora_up @ adapter.lora_down
        setattr(parent, name, adapter.plain())
    return model.requires_grad_(True)


def without_adapters(model: Model) -> Model:
    """The model as it was before `adapt`, not to be trained. It shares the frozen weights, so it costs no memory and is
    always in the model's number format."""
    shared = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    shared |= {id(part): part for _, _, adapter in adapters(model) for part in (adapter.lora_down, adapter.lora_up)}
    other = copy.deepcopy(model, shared)
    for parent, name, adapter in list(adapters(other)):
        setattr(parent, name, adapter.plain())
    return other.eval().requires_grad_(False)
