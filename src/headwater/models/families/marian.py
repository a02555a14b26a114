"""Marian (Junczys-Dowmunt et al., 2018): the encoder-decoder of Vaswani et al. (2017), with a bias on the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from headwater.models.config import TransformerConfig
from headwater.models.families.family import Family
from headwater.models.families.keys import (
    activation,
    checked,
    flag,
    head_width,
    name_of_activation,
    number,
    refuse_others,
    whole_number,
    whole_numbers,
)
from headwater.models.model import Config

_SIZES = {
    "vocabulary": "vocab_size",
    "layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "d_model": "d_model",
    "heads": "encoder_attention_heads",
    "d_feedforward": "encoder_ffn_dim",
    "context": "max_position_embeddings",
}
_EQUAL = {
    "decoder_vocab_size": "vocab_size",
    "decoder_attention_heads": "encoder_attention_heads",
    "decoder_ffn_dim": "encoder_ffn_dim",
}
"""What may differ between decoder and encoder there, and not here."""


class Marian(Family):
    name = "marian"
    base = "model."
    prefixes: ClassVar[Mapping[str, str]] = {
        "backbone.embedding.": "shared.",
        "backbone.encoder.blocks.": "encoder.layers.",
        "backbone.decoder.blocks.": "decoder.layers.",
        "heads.language_model.bias": "final_logits_bias",
        "heads.language_model.": "lm_head.",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.out_proj",
        "attention_norm": "self_attn_layer_norm",
        "cross.query": "encoder_attn.q_proj",
        "cross.key": "encoder_attn.k_proj",
        "cross.value": "encoder_attn.v_proj",
        "cross.output": "encoder_attn.out_proj",
        "cross_norm": "encoder_attn_layer_norm",
        "feedforward.up": "fc1",
        "feedforward.down": "fc2",
        "feedforward_norm": "final_layer_norm",
    }
    passed_over: ClassVar[tuple[str, ...]] = ("coder.embed_positions.weight",)  # fixed sinusoids
    repeated: ClassVar[Mapping[str, str]] = {
        "lm_head.weight": "model.shared.weight",
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
    }
    in_rows_of_one: ClassVar[tuple[str, ...]] = ("final_logits_bias",)

    def __init__(self) -> None:
        self.architectures = {"language-model": "MarianMTModel", "hidden": "MarianModel"}

    def write(self, config: Config) -> dict[str, Any]:
        written = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}
        return (
            written
            | {key: written[equal] for key, equal in _EQUAL.items()}
            | {
                "is_encoder_decoder": True,
                "share_encoder_decoder_embeddings": True,
                "scale_embedding": config.scaled_embeddings,
                "activation_function": name_of_activation(config.activation),
                "dropout": config.dropout,
                "attention_dropout": config.dropout,
                "activation_dropout": 0.0,
                "decoder_start_token_id": config.decoder_start,
                "forced_eos_token_id": None,
                "tie_word_embeddings": True,
            }
        )

    def read(self, config: Mapping[str, Any], place: str) -> TransformerConfig:
        only: dict[str, tuple[object, ...]] = {
            "share_encoder_decoder_embeddings": (True,),
            "normalize_before": (False,),
            "normalize_embedding": (False,),
            "add_final_layer_norm": (False,),
            "static_position_embeddings": (True,),
            "is_encoder_decoder": (True,),
            "tie_word_embeddings": (True,),
        }
        refuse_others(config, only, place)
        sizes = whole_numbers(config, _SIZES, place)
        for key, equal in _EQUAL.items():
            checked(config, key, place, config[equal])
        return TransformerConfig(
            **sizes,
            key_value_heads=sizes["heads"],
            head_dim=head_width(sizes, place),
            form="encoder-decoder",
            norm="layer",
            norm_place="post",
            norm_epsilon=1e-5,
            positions="sinusoidal",
            scaled_embeddings=flag(config, "scale_embedding", place, False),
            activation=activation(config, "activation_function", place, "gelu"),
            gated=False,
            query_bias=True,
            output_bias=True,
            feedforward_bias=True,
            qk_norm=False,
            dropout=number(config, "dropout", place, 0.1),
            head_bias=True,
            decoder_start=whole_number(config, "decoder_start_token_id", place, least=0),
        )


MARIAN = Marian()
