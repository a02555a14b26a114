"""GPT-2 (Radford et al., 2019): pre-norm LayerNorm, learned positions, biases; matrices stored input first, queries, keys
and values as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from headwater.models.config import TransformerConfig
from headwater.models.families.family import Family
from headwater.models.families.keys import (
    activation,
    flag,
    head_width,
    name_of_activation,
    number,
    refuse_others,
    whole_number,
    whole_numbers,
)
from headwater.models.model import Config, Kind

_SIZES = {
    "vocabulary": "vocab_size",
    "layers": "n_layer",
    "d_model": "n_embd",
    "heads": "n_head",
    "context": "n_positions",
}
_INPUT_FIRST = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
_FUSED = ("query", "key", "value")


class GPT2Like(Family):
    name = "gpt2"
    base = "transformer."
    prefixes: ClassVar[Mapping[str, str]] = {
        "backbone.embedding.": "wte.",
        "backbone.inputs.positions.": "wpe.",
        "backbone.norm.": "ln_f.",
        "backbone.blocks.": "h.",
        "heads.language_model.": "lm_head.",
        "heads.reward.score.": "score.",
        "heads.critic.score.": "classifier.",
        "heads.class.classes.": "score.",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "attention_norm": "ln_1",
        "feedforward_norm": "ln_2",
        "attention.output": "attn.c_proj",
        "attention.query": "attn.c_attn",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
    }
    passed_over: ClassVar[tuple[str, ...]] = (".attn.bias", ".attn.masked_bias")  # causal masks of early writers
    repeated: ClassVar[Mapping[str, str]] = {"lm_head.weight": "transformer.wte.weight"}

    def __init__(self) -> None:
        self.architectures = {
            "language-model": "GPT2LMHeadModel",
            "reward": "GPT2ForSequenceClassification",
            "critic": "GPT2ForTokenClassification",
            "class": "GPT2ForSequenceClassification",
            "hidden": "GPT2Model",
        }

    def write(self, config: Config) -> dict[str, Any]:
        return {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()} | {
            "n_inner": config.d_feedforward,
            "activation_function": name_of_activation(config.activation),
            "layer_norm_epsilon": config.norm_epsilon,
            "scale_attn_weights": config.scaled_attention,
            "tie_word_embeddings": config.tied_embeddings,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
        }

    def read(self, config: Mapping[str, Any], place: str) -> TransformerConfig:
        refuse_others(config, {"add_cross_attention": (False,), "scale_attn_by_inverse_layer_idx": (False,)}, place)
        sizes = whole_numbers(config, _SIZES, place)
        return TransformerConfig(
            **sizes,
            key_value_heads=sizes["heads"],
            head_dim=head_width(sizes, place),
            d_feedforward=whole_number(config, "n_inner", place, 4 * sizes["d_model"]),
            norm="layer",
            norm_epsilon=number(config, "layer_norm_epsilon", place, 1e-5),
            positions="learned",
            activation=activation(config, "activation_function", place, "gelu_new"),
            gated=False,
            query_bias=True,
            output_bias=True,
            feedforward_bias=True,
            qk_norm=False,
            scaled_attention=flag(config, "scale_attn_weights", place, True),
            dropout=number(config, "resid_pdrop", place, 0.1),
            tied_embeddings=flag(config, "tie_word_embeddings", place, True),
        )

    def export(self, weights: Mapping[str, Tensor], config: Config, kind: Kind) -> dict[str, Tensor]:
        found = {}
        for name, tensor in weights.items():
            if ".attention.key." in name or ".attention.value." in name:
                continue
            if ".attention.query." in name:
                tensor = torch.cat([weights[name.replace(".query.", f".{part}.")] for part in _FUSED])
            theirs = self.rename(name, config, kind)
            found[theirs] = tensor.T if theirs.endswith(_INPUT_FIRST) else tensor
        return found

    def absorb(
        self, weights: Mapping[str, Tensor], ours: Mapping[str, Tensor], config: Config, kind: Kind
    ) -> dict[str, Tensor]:
        found = {}
        for name in ours:
            part = next((part for part in _FUSED if f".attention.{part}." in name), "")
            theirs = self.rename(name.replace(f".{part}.", ".query.") if part else name, config, kind)
            tensor = weights[theirs].T if theirs.endswith(_INPUT_FIRST) else weights[theirs]
            found[name] = tensor.chunk(3)[_FUSED.index(part)] if part else tensor
        return found


GPT2 = GPT2Like()
