"""BERT (Devlin et al., 2019): an encoder with the norm after each branch, learned positions, segments and a pooler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from headwater.errors import UserError
from headwater.models.config import TransformerConfig
from headwater.models.families.family import Family
from headwater.models.families.keys import (
    activation,
    flag,
    head_width,
    name_of_activation,
    number,
    refuse_others,
    whole_numbers,
)
from headwater.models.model import Config, Kind

_SIZES = {
    "vocabulary": "vocab_size",
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "d_feedforward": "intermediate_size",
    "context": "max_position_embeddings",
    "segments": "type_vocab_size",
}


class Bert(Family):
    name = "bert"
    base = "bert."
    prefixes: ClassVar[Mapping[str, str]] = {
        "backbone.embedding.": "embeddings.word_embeddings.",
        "backbone.inputs.positions.": "embeddings.position_embeddings.",
        "backbone.inputs.segments.": "embeddings.token_type_embeddings.",
        "backbone.inputs.norm.": "embeddings.LayerNorm.",
        "backbone.blocks.": "encoder.layer.",
        "heads.hidden.pooler.": "pooler.dense.",
        "heads.masked.bias": "cls.predictions.bias",
        "heads.masked.dense.": "cls.predictions.transform.dense.",
        "heads.masked.norm.": "cls.predictions.transform.LayerNorm.",
        "heads.class.pooler.": "bert.pooler.dense.",
        "heads.class.classes.": "classifier.",
        "heads.span.ends.": "qa_outputs.",
        "heads.critic.score.": "classifier.",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "attention.output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feedforward.up": "intermediate.dense",
        "feedforward.down": "output.dense",
        "feedforward_norm": "output.LayerNorm",
    }
    passed_over: ClassVar[tuple[str, ...]] = ("embeddings.position_ids",)
    repeated: ClassVar[Mapping[str, str]] = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self) -> None:
        self.architectures = {
            "hidden": "BertModel",
            "masked": "BertForMaskedLM",
            "class": "BertForSequenceClassification",
            "span": "BertForQuestionAnswering",
            "critic": "BertForTokenClassification",
        }

    def write(self, config: Config) -> dict[str, Any]:
        return {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()} | {
            "hidden_act": name_of_activation(config.activation),
            "layer_norm_eps": config.norm_epsilon,
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.dropout,
            "tie_word_embeddings": config.tied_embeddings,
            "headwater_pooler": config.pooler,  # others tell it by the weights alone
            "is_decoder": False,
        }

    def read(self, config: Mapping[str, Any], place: str) -> TransformerConfig:
        only: dict[str, tuple[object, ...]] = {
            "is_decoder": (False,),
            "add_cross_attention": (False,),
            "position_embedding_type": ("absolute",),
        }
        refuse_others(config, only, place)
        sizes = whole_numbers(config, _SIZES, place)
        return TransformerConfig(
            **sizes,
            key_value_heads=sizes["heads"],
            head_dim=head_width(sizes, place),
            form="encoder",
            norm="layer",
            norm_place="post",
            norm_epsilon=number(config, "layer_norm_eps", place, 1e-12),
            embedding_norm=True,
            positions="learned",
            activation=activation(config, "hidden_act", place, "gelu"),
            gated=False,
            query_bias=True,
            output_bias=True,
            feedforward_bias=True,
            qk_norm=False,
            dropout=number(config, "hidden_dropout_prob", place, 0.1),
            tied_embeddings=flag(config, "tie_word_embeddings", place, True),
            pooler=flag(config, "headwater_pooler", place, True),
        )

    def holds(self, config: Config, kind: Kind) -> bool:
        return config.pooler if kind == "class" else config.tied_embeddings or kind != "masked"

    def settled(self, weights: Mapping[str, Tensor], kind: Kind) -> dict[str, Tensor]:
        found = super().settled(weights, kind)
        earlier = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
        for old, new in earlier.items():  # the names of the first checkpoints
            found = {
                name.removesuffix(old) + new if name.endswith(old) else name: tensor for name, tensor in found.items()
            }
        return found

    def suited(self, config: Config, kind: Kind, weights: Mapping[str, Tensor]) -> Config:
        """Whether a bare backbone has a pooler is told by its weights alone."""
        if kind == "masked" and not config.tied_embeddings:
            raise UserError("A BERT for masked tokens with a matrix of its own for them (untied) cannot be loaded.")
        if kind == "hidden":
            return replace(config, pooler="pooler.dense.weight" in weights)
        return replace(config, pooler=True) if kind == "class" else config


BERT = Bert()
