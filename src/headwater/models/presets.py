"""From a recipe's few dials to every choice of a model, by the name of its architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headwater.errors import UserError
from headwater.models.config import TransformerConfig

if TYPE_CHECKING:
    from headwater.models.model import Config, Model
    from headwater.models.settings import ModelSettings

DECODER_START = 0
"""Token with which an encoder-decoder's answer begins: that of padding, as in T5 and Marian."""


@dataclass(frozen=True)
class Preset:
    """What an architecture fixes: fields of TransformerConfig, and how its weights are drawn."""

    choices: dict[str, Any] = field(default_factory=dict)
    initialisation: str = "scaled"
    grouped: bool = True
    """Whether several heads of queries may share one of keys and values."""


_LAYER_NORM = {"norm": "layer", "gated": False, "qk_norm": False}
_BIASES = {"query_bias": True, "output_bias": True, "feedforward_bias": True}

PRESETS: dict[str, Preset] = {
    "qwen3": Preset(),
    "llama": Preset({"qk_norm": False}),
    "gpt2": Preset(
        _LAYER_NORM | _BIASES | {"norm_epsilon": 1e-5, "positions": "learned", "activation": "gelu-tanh"},
        initialisation="gpt2",
        grouped=False,
    ),
    "bert": Preset(
        _LAYER_NORM
        | _BIASES
        | {
            "form": "encoder",
            "norm_place": "post",
            "norm_epsilon": 1e-12,
            "embedding_norm": True,
            "segments": 2,
            "positions": "learned",
            "activation": "gelu",
        },
        initialisation="bert",
        grouped=False,
    ),
    "encoder": Preset({"form": "encoder"}),
    "paper": Preset(
        _LAYER_NORM
        | _BIASES
        | {
            "form": "encoder-decoder",
            "norm_place": "post",
            "norm_epsilon": 1e-5,
            "positions": "sinusoidal",
            "scaled_embeddings": True,
            "activation": "relu",
            "head_bias": True,
        },
        initialisation="xavier",
        grouped=False,
    ),
    "t5": Preset(
        {
            "form": "encoder-decoder",
            "positions": "relative",
            "activation": "relu",
            "gated": False,
            "qk_norm": False,
            "scaled_attention": False,
        },
        initialisation="t5",
        grouped=False,
    ),
    "encoder-decoder": Preset({"form": "encoder-decoder"}),
}
"""Transformers by name; the defaults of TransformerConfig are those of `qwen3`."""

RIVALS = ("rnn", "gru", "lstm", "convolutional")
_OF_TRANSFORMERS = (
    "decoder_layers", "heads", "key_value_heads", "d_feedforward", "qk_norm", "positions", "rope_base", "window",
    "gradient_checkpointing",
)  # fmt: skip
"""Dials without a meaning for the rivals."""


def config_of(settings: ModelSettings, vocabulary: int) -> Config:
    """A recipe's dials → every size and choice. Raises UserError where a dial does not fit the architecture."""
    if settings.architecture in RIVALS:
        return _rival(settings, vocabulary)
    preset = PRESETS[settings.architecture]
    if settings.d_model % settings.heads:
        raise UserError(
            f"pretrain.model.d_model = {settings.d_model} is not a multiple of its heads = {settings.heads}: "
            "choose a multiple."
        )
    if settings.key_value_heads not in (None, settings.heads) and not preset.grouped:
        raise UserError(
            f"pretrain.model.key_value_heads = {settings.key_value_heads} does not fit the architecture "
            f"`{settings.architecture}`, which has no grouped queries: leave it out."
        )
    choices = preset.choices | {
        name: value
        for name, value in (("positions", settings.positions), ("qk_norm", settings.qk_norm))
        if value is not None
    }
    gated = choices.get("gated", True)
    if choices.get("form") == "encoder-decoder":
        choices |= {"decoder_layers": settings.decoder_layers or settings.layers, "decoder_start": DECODER_START}
    elif settings.decoder_layers is not None:
        raise UserError(
            f"pretrain.model.decoder_layers is only for encoder-decoders, which `{settings.architecture}` is not: "
            "leave it out."
        )
    if settings.architecture == "t5":
        choices["scaled_head"] = settings.tied_embeddings
    if choices.get("positions", "rotary") != "rotary" and settings.rope_base != _default(settings, "rope_base"):
        raise UserError(
            f"pretrain.model.rope_base is only for rotary positions; these are {choices['positions']}: leave it out."
        )
    feedforward = -(-settings.d_model * 8 // 3 // 64) * 64 if gated else 4 * settings.d_model
    return TransformerConfig(
        vocabulary=vocabulary,
        layers=settings.layers,
        d_model=settings.d_model,
        heads=settings.heads,
        key_value_heads=settings.key_value_heads or settings.heads,
        head_dim=settings.d_model // settings.heads,
        d_feedforward=settings.d_feedforward or feedforward,
        context=settings.context,
        rope_base=settings.rope_base,
        window=settings.window,
        dropout=settings.dropout,
        tied_embeddings=settings.tied_embeddings,
        **choices,
    )


def _rival(settings: ModelSettings, vocabulary: int) -> Config:
    """A recurrent or a convolutional network."""
    from typing import cast

    from headwater.models.convolutional import ConvolutionalConfig
    from headwater.models.recurrent import RecurrentConfig

    for name in _OF_TRANSFORMERS:
        if getattr(settings, name) != _default(settings, name):
            raise UserError(
                f"pretrain.model.{name} has no meaning for the architecture `{settings.architecture}`: leave it out."
            )
    sizes: dict[str, Any] = {
        "vocabulary": vocabulary,
        "layers": settings.layers,
        "d_model": settings.d_model,
        "context": settings.context,
        "dropout": settings.dropout,
        "tied_embeddings": settings.tied_embeddings,
    }
    if settings.architecture == "convolutional":
        return cast("Config", ConvolutionalConfig(**sizes))
    return cast("Config", RecurrentConfig(**sizes, cell=settings.architecture))  # type: ignore[arg-type]


def _default(settings: ModelSettings, name: str) -> Any:
    return type(settings).model_fields[name].default


def with_checkpointing(model: Model, wanted: bool) -> Model:
    """The same model, whose blocks are computed again in the backward pass, or not."""
    from headwater.models.transformer import Stack

    for part in model.modules():
        if isinstance(part, Stack):
            part.checkpointing = wanted
    return model
