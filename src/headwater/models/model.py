"""A model: a backbone and its named head."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from headwater.errors import UserError
from headwater.models import shared_start
from headwater.models.backbone import Backbone
from headwater.models.config import TransformerConfig
from headwater.models.convolutional import (
    ConvolutionalClassifier,
    ConvolutionalConfig,
    ConvolutionalDecoder,
    TextConvolutionConfig,
)
from headwater.models.heads import ClassHead, HiddenHead, LanguageModelHead, MaskedHead, ScalarHead, SpanHead, gathered
from headwater.models.recurrent import RecurrentConfig, RecurrentDecoder
from headwater.models.recurrent_attention import RecurrentEncoderDecoder
from headwater.models.rival_config import RivalConfig
from headwater.models.transformer import EncoderDecoder, Transformer

Kind = Literal["language-model", "masked", "class", "span", "reward", "critic", "hidden"]
"""The head: the next token's logits, a masked token's, a row's class, an answer's ends, one score per row, one value per
token, or none."""

Config = TransformerConfig
"""Of any backbone."""

CONFIGS: dict[str, type] = {
    "transformer": TransformerConfig,
    "recurrent": RecurrentConfig,
    "convolutional": ConvolutionalConfig,
    "text-convolution": TextConvolutionConfig,
}
"""Name of a kind of backbone → its configuration."""

BACKBONES: dict[type, Callable[[Any], Backbone]] = {
    TransformerConfig: lambda config: (
        EncoderDecoder(config) if config.form == "encoder-decoder" else Transformer(config)
    ),
    RecurrentConfig: lambda config: (
        RecurrentEncoderDecoder(config) if config.form == "encoder-decoder" else RecurrentDecoder(config)
    ),
    ConvolutionalConfig: ConvolutionalDecoder,
    TextConvolutionConfig: ConvolutionalClassifier,
}
"""What is built from each kind of configuration."""


class Model(nn.Module):
    """`model(ids)` gives the head's output, `model.backbone(ids)` the hidden states."""

    def __init__(self, config: Config | RivalConfig, kind: Kind = "language-model", classes: int = 2) -> None:
        super().__init__()
        self.config = cast(Config, config)  # rivals answer what is asked of a configuration outside their own files
        self.kind, self.classes = kind, classes
        self.backbone = BACKBONES[type(config)](config)
        self.heads = nn.ModuleDict({kind.replace("-", "_"): self._head()})

    def _head(self) -> nn.Module:
        config, kind = self.config, self.kind
        if kind in ("language-model", "masked"):
            embedding = cast(nn.Embedding, self.backbone.embedding)
            if kind == "masked":
                return MaskedHead(embedding, config.tied_embeddings, config)
            scale = config.d_model**-0.5 if config.scaled_head else 1.0
            return LanguageModelHead(embedding, config.tied_embeddings, config.head_bias, scale)
        if kind == "class":
            return ClassHead(config, self.classes)
        if kind == "span":
            return SpanHead(config.d_model)
        if kind == "hidden":
            return HiddenHead(config)
        return ScalarHead(config.d_model, bias=kind == "critic")

    @property
    def head(self) -> nn.Module:
        """Whatever sits on the backbone."""
        return self.heads[self.kind.replace("-", "_")]

    @property
    def language_model(self) -> LanguageModelHead:
        """The head over the vocabulary, of the next or of masked tokens."""
        return cast(LanguageModelHead, self.head)

    @property
    def scalar(self) -> ScalarHead:
        """The head of a reward model or a critic."""
        return cast(ScalarHead, self.head)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return next(self.parameters()).dtype

    @property
    def answer_start(self) -> int | None:
        """The token with which an encoder-decoder's answers begin; None for a decoder, whose answers continue their prompts.

        Raises UserError where an encoder-decoder's configuration names none.
        """
        if self.config.form != "encoder-decoder":
            return None
        if self.config.decoder_start is None:
            raise UserError("The model's configuration names no token that an answer begins with: set decoder_start.")
        return self.config.decoder_start

    def forward(self, *inputs: Tensor | None, **more: Tensor | None) -> Tensor:
        """The head's output for what the backbone takes: `model(ids)`, `model(pixels)`, or `model(source, target)`.

        A decoder or an encoder takes ids [batch, time] and perhaps positions and documents [batch, time]; padding is
        documents = 0, real tokens 1 (`Transformer.forward` says more). An encoder of images takes pixels [batch, channels,
        height, width], an encoder-decoder source and target ids, and perhaps source_documents (0 is padding).

        Gives logits [batch, time, vocabulary], [batch, classes] or [batch, time, 2], scalars [batch, time], or hidden states
        [batch, time, d_model].
        """
        hidden = self.backbone(*inputs, **more)
        if self.kind != "class":
            return cast(Tensor, self.head(hidden))
        place = 4 if self.config.form == "encoder-decoder" else 2  # of `documents` among the backbone's arguments
        return cast(Tensor, self.head(hidden, inputs[place] if len(inputs) > place else more.get("documents")))

    @property
    def shares_beginnings(self) -> bool:
        """Whether `hidden_states` reads a beginning that all rows share once."""
        return shared_start.can_share(self.backbone)

    def hidden_states(self, *inputs: Tensor | None) -> Tensor:
        """`backbone(*inputs)`, [batch, time, d_model]; where all rows of a decoder begin alike, their beginning is read once.

        inputs: as `Batch.inputs` gives them.
        """
        ids, *others = inputs
        assert ids is not None
        if all(other is None for other in others) and self.shares_beginnings:
            length = shared_start.common_length(ids)
            if length:
                return shared_start.states(cast(Transformer, self.backbone), ids, length)
        return cast(Tensor, self.backbone(*inputs))

    def scores(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Reward of each row, [batch], read from its summary; ids and lengths as in `summaries`."""
        return cast(Tensor, self.scalar(self.summaries(ids, lengths)))

    def summaries(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """The state that stands for each row, [batch, d_model], as `heads.gathered` says: a decoder's at the last real token.

        ids: [batch, time], padded on the right; lengths: [batch], real tokens, so padding is no matter. An encoder-decoder
        reads the whole row twice, in its encoder and, one place on, in its decoder, whose last state it is (as in BART's
        and T5's classifiers; Lewis et al., 2020): a row need not say where its answer begins.
        """
        documents = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        if self.answer_start is not None:
            begun = torch.full_like(ids[:, :1], self.answer_start)
            states = self.backbone(ids, torch.cat((begun, ids[:, :-1]), dim=1), documents)
            return cast(Tensor, states[torch.arange(len(ids)), lengths - 1])
        # A decoder needs no mask for padding on the right, and is faster without.
        hidden = self.hidden_states(ids, None, None if self.config.form == "decoder" else documents)
        return gathered(self.config, hidden, documents)

    def initialise(self, seed: int, scheme: str = "scaled") -> Model:
        """Fresh weights that depend on the seed alone. scheme: a name of `initialisation.SCHEMES`."""
        generator = torch.Generator().manual_seed(seed)
        self.backbone.initialise(generator, scheme)
        if isinstance(self.head, ScalarHead):
            self.head.initialise(generator)
        elif self.kind in ("language-model", "masked"):
            if not self.config.tied_embeddings:
                # Nearly uniform first predictions: the readout of μP (Yang et al., 2022).
                nn.init.normal_(self.language_model.weight, std=1 / self.config.d_model, generator=generator)
            self._initialise_layers(self.head, generator)
        else:
            self._initialise_layers(self.head, generator)
        return self

    def _initialise_layers(self, head: nn.Module, generator: torch.Generator) -> None:
        for layer in head.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def with_head(self, kind: Kind, seed: int, layers: int | None = None) -> Model:
        """A new model with a copy of this backbone and a fresh head (critics of reward models copy the head too).

        layers: of so many first blocks alone, under the same last norm; absent: of all. It is in training mode, and has
        dropout, where this one is: models from disk are not, as is right for all of RL.

        Raises UserError where the backbone is no stack of at least so many blocks.
        """
        other = Model(self.config if layers is None else self._shortened(layers), kind).initialise(seed)
        weights = self.backbone.state_dict()
        other.backbone.load_state_dict({name: weights[name] for name in other.backbone.state_dict()})
        if kind == "critic" and self.kind == "reward":
            with torch.no_grad():
                other.scalar.score.weight.copy_(self.scalar.score.weight)
        return other.train(self.training)

    def _shortened(self, layers: int) -> Config:
        """The configuration of a stack of so many blocks."""
        if not isinstance(self.config, TransformerConfig) or self.config.form == "encoder-decoder":
            raise UserError("Only a decoder or an encoder can be used up to a block: leave `layers` out.")
        if layers > self.config.layers:
            raise UserError(
                f"The model has {self.config.layers} blocks, not {layers}: lower `layers`, or leave it out."
            )
        return dataclasses.replace(self.config, layers=layers)

    def extended(self, method: Literal["linear", "ntk", "yarn"], context: int) -> Model:
        """A copy whose rotary positions are stretched to reach `context` tokens (`TransformerConfig.extended`).

        Raises UserError where the positions are not rotary, are stretched already, or reach so far as they are.
        """
        if not isinstance(self.config, TransformerConfig):
            raise UserError("Only a Transformer's rotary positions can be extended; this model has no positions.")
        other = Model(self.config.extended(method, context), self.kind, self.classes)
        other.load_state_dict(self.state_dict())
        return other

    def frozen(self, dtype: torch.dtype) -> Model:
        """A copy in this number format that is not trained."""
        return copy.deepcopy(self).to(dtype).eval().requires_grad_(False)

    def parameter_count(self) -> int:
        """Trainable numbers; tied matrices count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def training_flops_per_token(self, time: int) -> float:
        """Floating-point operations of forward and backward per token: 6·N, N without an embedding that is only looked up,
        and in a Transformer 6·layers·d_model·time for the attention (causal half)."""
        lookup = 0 if self.config.tied_embeddings else cast(nn.Embedding, self.backbone.embedding).weight.numel()
        attention = self.config.layers * self.config.d_model * time if type(self.config) is TransformerConfig else 0
        return 6.0 * (self.parameter_count() - lookup) + 6.0 * attention
