"""ViT (Dosovitskiy et al., 2021): a pre-norm encoder of an image's patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from headwater.errors import UserError
from headwater.models.config import Patches, TransformerConfig
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
from headwater.models.model import Config, Kind

_SIZES = {
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "d_feedforward": "intermediate_size",
}


class ViT(Family):
    name = "vit"
    base = "vit."
    prefixes: ClassVar[Mapping[str, str]] = {
        "backbone.embedding.whole": "embeddings.cls_token",
        "backbone.embedding.projection.": "embeddings.patch_embeddings.projection.",
        "backbone.inputs.positions.weight": "embeddings.position_embeddings",
        "backbone.norm.": "layernorm.",
        "backbone.blocks.": "encoder.layer.",
        "heads.hidden.pooler.": "pooler.dense.",
        "heads.class.classes.": "classifier.",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "attention_norm": "layernorm_before",
        "attention.query": "attention.attention.query",
        "attention.key": "attention.attention.key",
        "attention.value": "attention.attention.value",
        "attention.output": "attention.output.dense",
        "feedforward_norm": "layernorm_after",
        "feedforward.up": "intermediate.dense",
        "feedforward.down": "output.dense",
    }
    in_rows_of_one: ClassVar[tuple[str, ...]] = ("embeddings.position_embeddings",)

    def __init__(self) -> None:
        self.architectures = {"hidden": "ViTModel", "class": "ViTForImageClassification"}

    def write(self, config: Config) -> dict[str, Any]:
        patches = config.patches
        if patches is None:
            raise UserError("This model is not one of images.")
        return {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()} | {
            "image_size": patches.image,
            "patch_size": patches.patch,
            "num_channels": patches.channels,
            "hidden_act": name_of_activation(config.activation),
            "layer_norm_eps": config.norm_epsilon,
            "qkv_bias": config.query_bias,
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.dropout,
            "pooler_output_size": config.d_model,
            "pooler_act": "tanh",
            "headwater_pooler": config.pooler,  # others tell it by the weights alone
        }

    def read(self, config: Mapping[str, Any], place: str) -> TransformerConfig:
        """Images have no vocabulary, so it is 0; the context are the patches and the token for the whole."""
        refuse_others(config, {"pooler_act": ("tanh",)}, place)
        sizes = whole_numbers(config, _SIZES, place)
        checked(config, "pooler_output_size", place, sizes["d_model"])
        patches = Patches(
            _side(config, "image_size", place),
            _side(config, "patch_size", place),
            whole_number(config, "num_channels", place, 3),
        )
        return TransformerConfig(
            **sizes,
            vocabulary=0,
            key_value_heads=sizes["heads"],
            head_dim=head_width(sizes, place),
            context=patches.count + 1,
            form="encoder",
            norm="layer",
            norm_epsilon=number(config, "layer_norm_eps", place, 1e-12),
            positions="learned",
            activation=activation(config, "hidden_act", place, "gelu"),
            gated=False,
            query_bias=flag(config, "qkv_bias", place, True),
            output_bias=True,
            feedforward_bias=True,
            qk_norm=False,
            dropout=number(config, "hidden_dropout_prob", place, 0.0),
            patches=patches,
            pooler=flag(config, "headwater_pooler", place, False),
        )

    def holds(self, config: Config, kind: Kind) -> bool:
        return kind != "class" or not config.pooler

    def suited(self, config: Config, kind: Kind, weights: Mapping[str, Tensor]) -> Config:
        """Whether a bare backbone has a pooler is told by its weights alone."""
        return replace(config, pooler=kind == "hidden" and "pooler.dense.weight" in weights)


def _side(config: Mapping[str, Any], key: str, place: str) -> int:
    """A square's side, which may be written as both of its sides."""
    value = config.get(key)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return whole_number({key: value[0]}, key, place)
    if isinstance(value, list):
        raise UserError(f"{place}: {key} is {value!r}; only square images and patches can be loaded.")
    return whole_number(config, key, place)


VIT = ViT()
