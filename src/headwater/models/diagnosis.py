"""How large the signal is in each layer, forward and backward: what shows a bad start, or a layer that went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from headwater.models.model import Model

SPREAD = 30.0
"""How many times larger the largest layer's signal may be than the smallest's before the verdict names it."""


@dataclass
class LayerSignal:
    """Root mean squares in one layer. `None` where there is nothing to measure."""

    name: str
    activation: float
    """Of the layer's output."""
    gradient: float | None = None
    """Of the loss's gradient with respect to that output, per token: times the number of tokens."""
    weight: float | None = None
    """Of its matrices."""
    weight_gradient: float | None = None
    """Of the loss's gradient with respect to its matrices."""


@dataclass
class Diagnosis:
    """Signals of all layers, from the input to the output, and what they mean."""

    loss: float
    layers: list[LayerSignal] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        inner = [layer for layer in self.layers if "block" in layer.name]
        numbers = [
            self.loss,
            *(layer.activation for layer in self.layers),
            *(layer.gradient or 0.0 for layer in self.layers),
        ]
        if not all(math.isfinite(number) for number in numbers):
            return "The signal is not finite: lower the learning rate or choose another initialisation."
        # Embeddings are small on purpose, and logits have a scale of their own; gradients should come from the head whole.
        for what, layers in (("activation", inner), ("gradient", [*inner, self.layers[-1]])):
            sizes = [(getattr(layer, what), layer.name) for layer in layers if getattr(layer, what) is not None]
            (least, low), (most, high) = min(sizes), max(sizes)
            if most > SPREAD * least:
                return (
                    f"The {what} is {most / max(least, 1e-30):,.0f} times larger in the {high} than in the {low}: training "
                    "may be unstable; `scaled` is the initialisation that keeps them alike."
                )
        return "Activations and gradients keep their size through the layers."

    def table(self) -> str:
        """Aligned columns, one layer a line."""
        heads = ("layer", "activation", "gradient", "weight", "weight gradient")
        rows = [
            (layer.name, *map(_number, (layer.activation, layer.gradient, layer.weight, layer.weight_gradient)))
            for layer in self.layers
        ]
        widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in [heads, *rows]
        ]
        return "\n".join(lines)


def diagnose(model: Model, run: Callable[[Model], Tensor]) -> Diagnosis:
    """Signals of one forward and backward pass; `run(model)` gives a mean loss. The model is left without gradients."""
    outputs: dict[str, Tensor] = {}
    layers = dict(layers_of(model))
    handles = [layer.register_forward_hook(_keep(outputs, name)) for name, layer in layers.items()]
    model.zero_grad()
    try:
        loss = run(model)
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
    found = Diagnosis(float(loss.detach()))
    for name, layer in layers.items():
        if name in outputs:
            found.layers.append(_signal(name, layer, outputs[name]))
    model.zero_grad()
    return found


def layers_of(model: Model) -> list[tuple[str, nn.Module]]:
    """(name, module) of the embedding, each block and the head."""
    backbone = model.backbone
    found: list[tuple[str, nn.Module]] = [("embedding", backbone.embedding)]
    for path, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList):
            place = path.rpartition(".")[0]
            prefix = f"{place} " if place in ("encoder", "decoder") else ""
            found += [(f"{prefix}block {number}", layer) for number, layer in enumerate(module, start=1)]
    return [*found, ("head", model.head)]


def _keep(outputs: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        if isinstance(output, Tensor):
            if output.requires_grad:
                output.retain_grad()
            outputs[name] = output

    return hook


def _signal(name: str, layer: nn.Module, output: Tensor) -> LayerSignal:
    matrices = [parameter for parameter in layer.parameters() if parameter.dim() >= 2]
    gradients = [parameter.grad for parameter in matrices if parameter.grad is not None]
    tokens = output.numel() // output.shape[-1]
    return LayerSignal(
        name,
        _root_mean_square([output.detach()]),
        None if output.grad is None else _root_mean_square([output.grad]) * tokens,
        _root_mean_square(matrices) if matrices else None,
        _root_mean_square(gradients) if gradients else None,
    )


def _root_mean_square(tensors: Sequence[Tensor]) -> float:
    total = sum(float(tensor.detach().float().square().sum()) for tensor in tensors)
    return math.sqrt(total / sum(tensor.numel() for tensor in tensors))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
