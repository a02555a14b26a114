"""Convolutional networks behind the Transformer's interface: a dilated causal language model, and a text classifier.

A convolution is computed as one matrix product over the taps of its window laid side by side. A tap that falls on
another document, on padding or before the row's beginning is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from headwater.errors import UserError
from headwater.models.backbone import Backbone
from headwater.models.initialisation import initialise
from headwater.models.norm import RMSNorm
from headwater.models.rival_config import RivalConfig

WIDEST = 1024
"""Taps of the widest kernel: far more than is of use."""


@dataclass(frozen=True)
class ConvolutionalConfig(RivalConfig):
    """The sizes of a dilated causal convolutional network; `kernel` is the number of taps of each layer."""

    vocabulary: int
    layers: int
    d_model: int
    context: int
    kernel: int = 3
    dropout: float = 0.0
    tied_embeddings: bool = True
    form: ClassVar[Literal["decoder"]] = "decoder"
    decoder_start: ClassVar[None] = None

    def __post_init__(self) -> None:
        self.check()
        if self.kernel < 2:
            raise UserError(f"A kernel of {self.kernel} sees no earlier token: choose at least 2.")
        if self.kernel > WIDEST:
            raise UserError(f"A kernel of {self.kernel} is wider than {WIDEST}: choose a smaller one.")

    @property
    def depth(self) -> int:
        """Blocks that a gradient passes through at most."""
        return self.layers

    @property
    def dilations(self) -> tuple[int, ...]:
        """Tokens between the taps of each layer: 1, 2, 4 … while a window fits the context, then from 1 again."""
        fitting = max(1, math.ceil(math.log2(max(1, self.context) / (self.kernel - 1))))
        return tuple(2 ** (layer % fitting) for layer in range(self.layers))

    @property
    def reach(self) -> int:
        """Tokens that the last layer's output depends on, its own included."""
        return 1 + (self.kernel - 1) * sum(self.dilations)


class ConvolutionalCache:
    """Inputs of each layer's convolution so far, by slot: [layers, slots, capacity, d_model]."""

    def __init__(self, config: ConvolutionalConfig, slots: int, capacity: int, dtype: torch.dtype) -> None:
        self.inputs = torch.zeros(config.layers, slots, capacity, config.d_model, dtype=dtype)
        self.rows = self.starts = self.lengths = torch.zeros(0, dtype=torch.long)

    def begin(self, rows: Tensor, starts: Tensor, lengths: Tensor) -> None:
        """The next pass writes `lengths` tokens into the slots `rows`, from the positions `starts`; [batch] each."""
        self.rows, self.starts, self.lengths = rows, starts, lengths

    def extend(self, layer: int, inputs: Tensor, shifts: list[int]) -> list[Tensor]:
        """Writes new inputs [batch, time, d_model]; returns what is `shift` tokens before each, for every shift."""
        batch, time, _ = inputs.shape
        kept = self.inputs[layer]
        row, place = (torch.arange(time) < self.lengths[:, None]).nonzero(as_tuple=True)  # padding is not written
        kept[self.rows[row], self.starts[row] + place] = inputs[row, place]
        positions = (self.starts[:, None] + torch.arange(time)).clamp(max=kept.shape[1] - 1)
        taps = []
        for shift in shifts:
            there = positions - shift
            tap = kept[self.rows[:, None].expand(batch, time), there.clamp(min=0)]
            taps.append(tap.masked_fill((there < 0)[..., None], 0))
        return taps

    def remember(self, rows: Tensor, memory: Tensor, documents: Tensor | None) -> None:
        raise NotImplementedError("a decoder without an encoder has no source to remember")

    def move(self, source: int, target: int) -> None:
        """Copies a slot onto another one."""
        self.inputs[:, target] = self.inputs[:, source]

    def select(self, order: Tensor) -> None:
        """Makes slot i what slot order[i] was."""
        self.inputs[:, : len(order)] = self.inputs[:, order]


def shifted(states: Tensor, shift: int, documents: Tensor | None) -> Tensor:
    """What stands `shift` tokens before each token, or after it where negative; 0 where that is another document.

    states: [batch, time, width]; documents: [batch, time] or None → [batch, time, width].
    """
    if shift == 0:
        return states
    moved = _moved(states.transpose(1, 2), shift, 0).transpose(1, 2)
    if documents is None:
        return moved
    return moved.masked_fill((_moved(documents, shift, -1) != documents)[..., None], 0)


def _moved(values: Tensor, shift: int, fill: int) -> Tensor:
    """[…, time] → values moved along their last dimension, what comes in being `fill`."""
    time = values.shape[-1]
    if shift > 0:
        return functional.pad(values, (shift, 0), value=fill)[..., :time]
    return functional.pad(values, (0, -shift), value=fill)[..., -shift:]


class ConvolutionalBlock(nn.Module):
    """hidden + dropout(W (tanh(signal) · sigmoid(gate))), [signal; gate] a dilated causal convolution of norm(hidden):
    the gated unit of WaveNet (van den Oord et al., 2016) as a pre-norm residual block."""

    def __init__(self, config: ConvolutionalConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.shifts = [tap * config.dilations[layer] for tap in range(config.kernel)]
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)
        self.taps = nn.Linear(config.kernel * config.d_model, 2 * config.d_model)
        self.output = nn.Linear(config.d_model, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, documents: Tensor | None, cache: ConvolutionalCache | None) -> Tensor:
        """[batch, time, d_model] → [batch, time, d_model]."""
        inputs = self.norm(hidden)
        if cache is not None:
            taps = cache.extend(self.layer, inputs, self.shifts)
        else:
            taps = [shifted(inputs, shift, documents) for shift in self.shifts]
        signal, gate = self.taps(torch.cat(taps, dim=-1)).chunk(2, dim=-1)
        return hidden + self.dropout(self.output(signal.tanh() * gate.sigmoid()))  # type: ignore[no-any-return]


class ConvolutionalDecoder(Backbone):
    """Token ids [batch, time] → hidden states [batch, time, d_model], each of the last `reach` tokens (Bai et al., 2018)."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(ConvolutionalBlock(config, layer) for layer in range(config.layers))
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,  # noqa: ARG002 (a window has its order in itself)
        documents: Tensor | None = None,
        cache: ConvolutionalCache | None = None,
    ) -> Tensor:
        """Right padding changes nothing for the tokens before it.

        ids: [batch, time]. documents: [batch, time], packed documents, which do not see each other; absent: one per
        row. cache: decoding continues the slots that it names.
        """
        hidden = self.dropout(self.embedding(ids))
        for block in self.blocks:
            hidden = block(hidden, documents, cache)
        return self.norm(hidden)  # type: ignore[no-any-return]

    def new_cache(self, slots: int, capacity: int, dtype: torch.dtype) -> ConvolutionalCache:
        """An empty cache of rows of up to `capacity` tokens."""
        return ConvolutionalCache(self.config, slots, capacity, dtype)

    def initialise(self, generator: torch.Generator, scheme: str = "scaled") -> None:
        """Fresh weights: embeddings and matrices by the scheme, biases 0."""
        initialise(self, cast(Any, self.config), scheme, generator)


@dataclass(frozen=True)
class TextConvolutionConfig(RivalConfig):
    """The sizes of a convolutional text classifier: `kernels` are the widths of its windows, which share the d_model
    features among them."""

    vocabulary: int
    d_model: int
    context: int
    kernels: tuple[int, ...] = (3, 4, 5)
    dropout: float = 0.0
    tied_embeddings: bool = True
    form: ClassVar[Literal["encoder"]] = "encoder"
    decoder_start: ClassVar[None] = None
    layers: ClassVar[int] = 1
    depth: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.check()
        if not self.kernels or min(self.kernels) < 1:
            raise UserError(f"kernels = {list(self.kernels)}, but there must be one, and each at least 1 wide.")
        if len(self.kernels) > self.d_model:
            raise UserError(f"d_model = {self.d_model} is too narrow for {len(self.kernels)} kernels: widen it.")


class ConvolutionalClassifier(Backbone):
    """One layer of convolutions of several widths over the embedding (Kim, 2014); the class head takes their maximum over
    time."""

    def __init__(self, config: TextConvolutionConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        count, rest = divmod(config.d_model, len(config.kernels))
        self.convolutions = nn.ModuleList(
            nn.Linear(kernel * config.d_model, count + (index < rest)) for index, kernel in enumerate(config.kernels)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,  # noqa: ARG002 (a window has its order in itself)
        documents: Tensor | None = None,
    ) -> Tensor:
        """[batch, time] → features of the window around each token [batch, time, d_model], at least 0.

        documents: [batch, time], which do not see each other; 0 = padding; absent: one per row.
        """
        embedded = self.embedding(ids)
        features = []
        for kernel, convolution in zip(self.config.kernels, self.convolutions, strict=True):
            before = kernel // 2
            taps = [shifted(embedded, shift, documents) for shift in range(before, before - kernel, -1)]
            features.append(convolution(torch.cat(taps, dim=-1)))
        return self.dropout(torch.cat(features, dim=-1).relu())  # type: ignore[no-any-return]

    def initialise(self, generator: torch.Generator, scheme: str = "scaled") -> None:
        """Fresh weights: embeddings and matrices by the scheme, biases 0."""
        initialise(self, cast(Any, self.config), scheme, generator)
