"""T5 (Raffel et al., 2020): relative positions, pre-norm RMSNorm, no biases; version 1.1 is gated and not tied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from headwater.models.config import Activation, TransformerConfig
from headwater.models.families.family import Family
from headwater.models.families.keys import (
    activation_named,
    flag,
    name_of_activation,
    number,
    refuse_others,
    whole_number,
    whole_numbers,
)
from headwater.models.model import Config, Kind

_SIZES = {
    "vocabulary": "vocab_size",
    "layers": "num_layers",
    "d_model": "d_model",
    "heads": "num_heads",
    "head_dim": "d_kv",
    "d_feedforward": "d_ff",
}
_HEAD, _EMBEDDING = "lm_head.weight", "shared.weight"


class T5Like(Family):
    name = "t5"
    prefixes: ClassVar[Mapping[str, str]] = {
        "backbone.embedding.": "shared.",
        "backbone.encoder.relative.": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.",
        "backbone.decoder.relative.": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.",
        "backbone.encoder.norm.": "encoder.final_layer_norm.",
        "backbone.decoder.norm.": "decoder.final_layer_norm.",
        "backbone.encoder.blocks.": "encoder.block.",
        "backbone.decoder.blocks.": "decoder.block.",
        "heads.language_model.": "lm_head.",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "attention_norm": "layer.0.layer_norm",
        "attention.query": "layer.0.SelfAttention.q",
        "attention.key": "layer.0.SelfAttention.k",
        "attention.value": "layer.0.SelfAttention.v",
        "attention.output": "layer.0.SelfAttention.o",
        "cross_norm": "layer.1.layer_norm",
        "cross.query": "layer.1.EncDecAttention.q",
        "cross.key": "layer.1.EncDecAttention.k",
        "cross.value": "layer.1.EncDecAttention.v",
        "cross.output": "layer.1.EncDecAttention.o",
        # The place of the feed-forward branch differs between encoder and decoder: see `rename`.
        "feedforward_norm": "layer.#.layer_norm",
        "feedforward.gate": "layer.#.DenseReluDense.wi_0",
        "feedforward.up": "layer.#.DenseReluDense.wi",
        "feedforward.down": "layer.#.DenseReluDense.wo",
    }
    repeated: ClassVar[Mapping[str, str]] = {
        _HEAD: _EMBEDDING,
        "encoder.embed_tokens.weight": _EMBEDDING,
        "decoder.embed_tokens.weight": _EMBEDDING,
    }

    def __init__(self) -> None:
        self.architectures = {
            "language-model": "T5ForConditionalGeneration",
            "hidden": "T5Model",
        }

    def write(self, config: Config) -> dict[str, Any]:
        name = name_of_activation(config.activation)
        if config.gated:
            name = "gated-gelu" if config.activation == "gelu-tanh" else f"gated-{name}"
        return {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()} | {
            "num_decoder_layers": config.decoder_layers,
            "is_encoder_decoder": True,
            "n_positions": config.context,
            "relative_attention_num_buckets": config.relative_buckets,
            "relative_attention_max_distance": config.relative_distance,
            "layer_norm_epsilon": config.norm_epsilon,
            "feed_forward_proj": name,
            "dropout_rate": config.dropout,
            "tie_word_embeddings": config.tied_embeddings,
            "scale_decoder_outputs": config.scaled_head,
            "decoder_start_token_id": config.decoder_start,
        }

    def read(self, config: Mapping[str, Any], place: str) -> TransformerConfig:
        refuse_others(config, {"is_encoder_decoder": (True,), "is_decoder": (False,)}, place)
        sizes = whole_numbers(config, _SIZES, place)
        gated, activation = _feedforward(config.get("feed_forward_proj", "relu"), place)
        tied = flag(config, "tie_word_embeddings", place, True)
        start = "pad_token_id" if config.get("decoder_start_token_id") is None else "decoder_start_token_id"
        return TransformerConfig(
            **sizes,
            key_value_heads=sizes["heads"],
            decoder_layers=whole_number(config, "num_decoder_layers", place, sizes["layers"]),
            context=whole_number(config, "n_positions", place, 512),
            form="encoder-decoder",
            norm_epsilon=number(config, "layer_norm_epsilon", place, 1e-6),
            positions="relative",
            relative_buckets=whole_number(config, "relative_attention_num_buckets", place, 32),
            relative_distance=whole_number(config, "relative_attention_max_distance", place, 128),
            activation=activation,
            gated=gated,
            qk_norm=False,
            scaled_attention=False,
            dropout=number(config, "dropout_rate", place, 0.1),
            tied_embeddings=tied,
            scaled_head=flag(config, "scale_decoder_outputs", place, tied),
            decoder_start=whole_number(config, start, place, 0, least=0),
        )

    def suited(self, config: Config, kind: Kind, weights: Mapping[str, Tensor]) -> Config:  # noqa: ARG002
        """A head with a matrix of its own is not tied, whatever config.json says: transformers 5 writes it so."""
        if {_HEAD, _EMBEDDING} <= weights.keys() and not torch.equal(weights[_HEAD], weights[_EMBEDDING]):
            return replace(config, tied_embeddings=False)
        return config

    def rename(self, name: str, config: Config, kind: Kind) -> str:
        theirs = super().rename(name, config, kind).replace(".layer.#.", f".layer.{2 if '.decoder.' in name else 1}.")
        return theirs.replace(".wi.", ".wi_1.") if config.gated else theirs


def _feedforward(name: object, place: str) -> tuple[bool, Activation]:
    """`feed_forward_proj` → whether it is gated, and the activation; "gated-gelu" means the tanh form."""
    if name == "gated-gelu":
        return True, "gelu-tanh"
    plain = name.removeprefix("gated-") if isinstance(name, str) else name
    return plain != name, activation_named(plain, "feed_forward_proj", place)


T5 = T5Like()
