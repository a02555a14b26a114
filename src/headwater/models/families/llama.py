"""Llama (Touvron et al., 2023), Qwen2 (biases on queries, keys and values) and Qwen3 (norms on queries and keys)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from headwater.errors import UserError
from headwater.models.config import RopeScaling, TransformerConfig
from headwater.models.families.family import Family
from headwater.models.families.keys import flag, number, refuse_others, whole_number, whole_numbers
from headwater.models.model import Config, Kind

_SIZES = {
    "vocabulary": "vocab_size",
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "d_feedforward": "intermediate_size",
    "context": "max_position_embeddings",
}


class LlamaLike(Family):
    """Pre-norm RMSNorm, rotary positions, gated feed-forward, grouped queries."""

    base = "model."
    prefixes: ClassVar[Mapping[str, str]] = {
        "backbone.embedding.": "embed_tokens.",
        "backbone.norm.": "norm.",
        "backbone.blocks.": "layers.",
        "heads.language_model.": "lm_head.",
        "heads.reward.score.": "score.",
        "heads.critic.score.": "score.",
        "heads.class.classes.": "score.",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "attention_norm": "input_layernorm",
        "feedforward_norm": "post_attention_layernorm",
        "attention.query_norm": "self_attn.q_norm",
        "attention.key_norm": "self_attn.k_norm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "feedforward.gate": "mlp.gate_proj",
        "feedforward.up": "mlp.up_proj",
        "feedforward.down": "mlp.down_proj",
    }
    passed_over: ClassVar[tuple[str, ...]] = (".rotary_emb.inv_freq",)
    repeated: ClassVar[Mapping[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, name: str, prefix: str, qk_norm: bool = False, query_bias: bool = False) -> None:
        self.name, self.qk_norm, self.query_bias = name, qk_norm, query_bias
        self.architectures: dict[Kind, str] = {
            "language-model": f"{prefix}ForCausalLM",
            "reward": f"{prefix}ForSequenceClassification",
            "critic": f"{prefix}ForTokenClassification",
            "class": f"{prefix}ForSequenceClassification",
            "hidden": f"{prefix}Model",
        }

    def write(self, config: Config) -> dict[str, Any]:
        """Both spellings of the rotary base are written (transformers 4 and 5)."""
        assert isinstance(config, TransformerConfig)
        written = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()} | {
            "num_key_value_heads": config.key_value_heads,
            "head_dim": config.head_dim,
            "rope_theta": config.rope_base,
            "rope_parameters": write_rope(config),
            "rms_norm_eps": config.norm_epsilon,
            "tie_word_embeddings": config.tied_embeddings,
            "hidden_act": "silu",
            "attention_bias": self.query_bias and self.name != "qwen2",
            "attention_dropout": 0.0,
            "dropout": config.dropout,
            "torch_dtype": "float32",
        }
        if config.rope_scaling is not None:
            written["rope_scaling"] = written["rope_parameters"]
        if self.name != "llama":
            written |= {"use_sliding_window": False, "sliding_window": None}
        return written

    def read(self, config: Mapping[str, Any], place: str) -> TransformerConfig:
        only: dict[str, tuple[object, ...]] = {
            "hidden_act": ("silu",),
            "attention_bias": (False,),
            "mlp_bias": (False,),
            "use_sliding_window": (False, None),
            "partial_rotary_factor": (1.0, None),
            "pretraining_tp": (1, None),
        }
        if self.name == "qwen2":
            only["attention_bias"] = (True, False, None)
        refuse_others(config, only, place)
        kinds = config.get("layer_types")
        if kinds is not None and (not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds)):
            raise UserError(
                f"{place} mixes other kinds of attention into some layers: only full attention can be loaded."
            )
        sizes = whole_numbers(config, _SIZES, place)
        base, scaling = read_rope(config, place)
        return TransformerConfig(
            **sizes,
            key_value_heads=whole_number(config, "num_key_value_heads", place, sizes["heads"]),
            head_dim=whole_number(config, "head_dim", place, max(1, sizes["d_model"] // sizes["heads"])),
            norm_epsilon=number(config, "rms_norm_eps", place),
            rope_base=base,
            rope_scaling=scaling,
            qk_norm=self.qk_norm,
            query_bias=self.query_bias,
            dropout=number(config, "dropout", place, 0.0),
            tied_embeddings=flag(config, "tie_word_embeddings", place, False),
        )


def write_rope(config: TransformerConfig) -> dict[str, Any]:
    """Rotary positions as `rope_parameters`."""
    scaling = config.rope_scaling
    written: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_base}
    if scaling is None:
        return written
    written |= {"rope_type": scaling.kind, "factor": scaling.factor}
    written["original_max_position_embeddings"] = scaling.original_context
    if scaling.kind == "yarn":
        written |= {"beta_fast": scaling.fast, "beta_slow": scaling.slow}
        if scaling.attention_factor is not None:
            written["attention_factor"] = scaling.attention_factor
    elif scaling.kind == "llama3":
        written |= {"high_freq_factor": scaling.fast, "low_freq_factor": scaling.slow}
    return written


def read_rope(config: Mapping[str, Any], place: str) -> tuple[float, RopeScaling | None]:
    """The base of the rotary positions and how they are scaled. Raises UserError for a scaling that we do not have."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise UserError(f"{place}: rope_parameters is {rope!r}, but must be a mapping.")
    base = number({"rope_theta": config.get("rope_theta") or rope.get("rope_theta") or 10_000.0}, "rope_theta", place)
    refuse_others(
        rope,
        {"partial_rotary_factor": (1.0, None), "mscale": (0, None), "mscale_all_dim": (0, None), "truncate": (True,)},
        place,
    )
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return base, None
    if kind not in ("linear", "yarn", "llama3"):
        raise UserError(
            f"{place} scales its rotary positions by {kind!r}: only default, linear, yarn and llama3 are known."
        )
    context = whole_number(config, "max_position_embeddings", place)
    factor = number(rope, "factor", place)
    if not 0 < factor < 1e6:
        raise UserError(f"{place}: the factor of the rotary positions is {factor}, but must be above 0.")
    original = whole_number(rope, "original_max_position_embeddings", place, max(1, int(context / factor)))
    if kind == "linear":
        return base, RopeScaling("linear", factor, original)
    if kind == "llama3":
        limits = {"fast": number(rope, "high_freq_factor", place), "slow": number(rope, "low_freq_factor", place)}
        return base, RopeScaling("llama3", factor, original, **limits)
    given = rope.get("attention_factor")
    attention = None if given is None else number(rope, "attention_factor", place)
    limits = {"fast": number(rope, "beta_fast", place, 32.0), "slow": number(rope, "beta_slow", place, 1.0)}
    return base, RopeScaling("yarn", factor, original, attention_factor=attention, **limits)


LLAMA = LlamaLike("llama", "Llama")
QWEN2 = LlamaLike("qwen2", "Qwen2", query_bias=True)
QWEN3 = LlamaLike("qwen3", "Qwen3", qk_norm=True)
