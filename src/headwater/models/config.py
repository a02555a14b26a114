"""What a decoder is made of: exactly a Llama or a Qwen3 configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headwater.errors import UserError
from headwater.recipe import ModelSettings

_WHOLE_NUMBERS = (
    "vocab_size",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
"""Keys of `config.json` that every model must have."""


@dataclass(frozen=True)
class DecoderConfig:
    """The sizes of a decoder-only Transformer. `qk_norm` makes the difference between Qwen3 (yes) and Llama (no)."""

    vocabulary: int
    layers: int
    d_model: int
    heads: int
    key_value_heads: int
    head_dim: int
    d_feedforward: int
    context: int
    qk_norm: bool = True
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.heads % self.key_value_heads:
            raise UserError(
                f"model.heads = {self.heads} is not a multiple of model.key_value_heads = {self.key_value_heads}: "
                "choose a divisor."
            )
        if self.head_dim % 2:
            raise UserError(f"The width of a head is {self.head_dim}, which is odd: rotary positions need an even one.")

    @classmethod
    def from_settings(cls, settings: ModelSettings, vocabulary: int) -> DecoderConfig:
        """A recipe's few dials → every size."""
        if settings.d_model % settings.heads:
            raise UserError(
                f"pretrain.model.d_model = {settings.d_model} is not a multiple of its heads = {settings.heads}: "
                "choose a multiple."
            )
        return cls(
            vocabulary=vocabulary,
            layers=settings.layers,
            d_model=settings.d_model,
            heads=settings.heads,
            key_value_heads=settings.key_value_heads or settings.heads,
            head_dim=settings.d_model // settings.heads,
            d_feedforward=settings.d_feedforward or -(-settings.d_model * 8 // 3 // 64) * 64,
            context=settings.context,
            qk_norm=settings.qk_norm,
            rope_base=settings.rope_base,
            tied_embeddings=settings.tied_embeddings,
        )

    def to_hugging_face(self) -> dict[str, Any]:
        """The keys of `config.json`; both spellings of the rotary base are written (transformers 4 and 5)."""
        return {
            "model_type": "qwen3" if self.qk_norm else "llama",
            "vocab_size": self.vocabulary,
            "num_hidden_layers": self.layers,
            "hidden_size": self.d_model,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.d_feedforward,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_base,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_base},
            "rms_norm_eps": self.norm_epsilon,
            "tie_word_embeddings": self.tied_embeddings,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "torch_dtype": "float32",
        }

    @classmethod
    def from_hugging_face(cls, config: dict[str, Any], place: str) -> DecoderConfig:
        """`config.json` → sizes. Raises UserError for a family or a feature that this decoder does not have."""
        family = config.get("model_type")
        if family not in ("llama", "qwen3"):
            raise UserError(f"{place} is of the family {family!r}: only llama and qwen3 decoders can be loaded.")
        if config.get("hidden_act", "silu") != "silu" or config.get("attention_bias") or config.get("mlp_bias"):
            raise UserError(f"{place} uses biases or another activation than silu: this decoder has neither.")
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
            raise UserError(f"{place} scales its rotary positions ({rope}): only the default is supported.")
        try:
            whole = {key: config[key] for key in _WHOLE_NUMBERS}
            heads = config["num_attention_heads"]
            whole["num_key_value_heads"] = config.get("num_key_value_heads") or heads
            whole["head_dim"] = config.get("head_dim") or config["hidden_size"] // heads
            epsilon = float(config["rms_norm_eps"])
            rope_base = float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0)
        except KeyError as error:
            raise UserError(f"{place} lacks the key {error}: it is no whole model configuration.") from None
        except (TypeError, ValueError, ZeroDivisionError):
            raise UserError(f"{place} has a text where a number belongs: it is no model configuration.") from None
        for key, value in whole.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"{place}: {key} is {value!r}, but must be a whole number of at least 1.")
        return cls(
            vocabulary=whole["vocab_size"],
            layers=whole["num_hidden_layers"],
            d_model=whole["hidden_size"],
            heads=whole["num_attention_heads"],
            key_value_heads=whole["num_key_value_heads"],
            head_dim=whole["head_dim"],
            d_feedforward=whole["intermediate_size"],
            context=whole["max_position_embeddings"],
            qk_norm=family == "qwen3",
            rope_base=rope_base,
            norm_epsilon=epsilon,
            tied_embeddings=config.get("tie_word_embeddings", False),
        )
