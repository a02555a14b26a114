"""The dials of a model in a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headwater.settings import Count, Positive, Settings


class ModelSettings(Settings):
    """Few dials of a model; the rest follows from its architecture, see `models/presets.py`."""

    architecture: Literal[
        "qwen3",
        "llama",
        "gpt2",
        "bert",
        "encoder",
        "paper",
        "t5",
        "encoder-decoder",
        "rnn",
        "gru",
        "lstm",
        "convolutional",
    ] = Field(
        "qwen3",
        description="Decoders: `qwen3`, `llama`, `gpt2`, `rnn`, `gru`, `lstm`, `convolutional`; encoders: `bert` and the modern "
        "`encoder`; encoder-decoders: `paper` (Vaswani et al. 2017), `t5` and the modern `encoder-decoder`.",
    )
    layers: Count = 6
    decoder_layers: Count | None = Field(None, description="Encoder-decoders only; absent: as many as `layers`.")
    d_model: Count = 256
    heads: Count = 4
    key_value_heads: Count | None = Field(None, description="Fewer than `heads`: grouped queries. Absent: the same.")
    d_feedforward: Count | None = Field(
        None, description="Absent: 4 d_model; of gated ones 8/3 d_model, rounded up to a multiple of 64."
    )
    context: Count = 256
    qk_norm: bool | None = Field(None, description="A norm of queries and keys. Absent: as the architecture has it.")
    positions: Literal["rotary", "learned", "sinusoidal", "relative", "alibi", "none"] | None = Field(
        None, description="Absent: those of the architecture."
    )
    rope_base: Positive = Field(10_000.0, description="Of rotary positions.")
    window: Count | None = Field(None, description="Tokens that one may see, itself included. Absent: all.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tied_embeddings: bool = Field(True, description="Input and output share one matrix; apart they learn faster.")
    initialisation: Literal["scaled", "gpt2", "bert", "xavier", "kaiming", "small", "t5", "unit"] | None = Field(
        None,
        description="How fresh weights are drawn, see `models/initialisation.py`. Absent: as the architecture asks.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute each block again in the backward pass: less memory, a third more time."
    )


class LoraSettings(Settings):
    """Adapters that are trained in place of the weights; see `models/lora.py`."""

    rank: Count = Field(16, description="Rows of an adapter's thin matrices.")
    alpha: Positive = Field(32.0, description="An adapter's output is scaled by alpha/rank.")
    maps: Literal["all", "attention"] = Field(
        "all", description="Which linear maps of the blocks have adapters; `attention`: queries, keys, values, output."
    )
