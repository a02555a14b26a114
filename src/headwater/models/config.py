"""What a Transformer is made of: one set of choices that covers the families of the world's checkpoints.

The defaults are those of the modern decoder (pre-norm RMSNorm, rotary positions, gated feed-forward), so a
configuration names what differs from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from headwater.errors import UserError

Form = Literal["decoder", "encoder", "encoder-decoder"]
Positions = Literal["rotary", "learned", "sinusoidal", "relative", "alibi", "none"]
Activation = Literal["silu", "relu", "gelu", "gelu-tanh"]


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions reach beyond the context that a model was trained at.

    linear: positions divided by `factor` (Chen et al., 2023). yarn: only the slow frequencies are divided, and the
    scores sharpened (Peng et al., 2023). llama3: the same idea with other limits (Llama 3.1). The NTK-aware extension is
    a larger base and needs no scaling: see `TransformerConfig.extended`.
    """

    kind: Literal["linear", "yarn", "llama3"]
    factor: float
    original_context: int
    fast: float = 32.0
    """yarn: frequencies with more turns than this within the original context stay (β_fast); llama3: high_freq_factor."""
    slow: float = 1.0
    """yarn: frequencies with fewer turns than this are divided (β_slow); llama3: low_freq_factor."""
    attention_factor: float | None = None
    """yarn: factor on cosine and sine; absent: 0.1·ln(factor) + 1."""

    def __post_init__(self) -> None:
        if self.factor <= 0 or self.original_context < 1:
            raise UserError(
                f"Rotary positions scaled by {self.factor} from a context of {self.original_context}: both must be above 0."
            )
        if self.kind != "linear" and not self.fast > self.slow > 0:
            raise UserError(
                f"Rotary positions scaled by {self.kind} between {self.fast} and {self.slow} turns: the first must be the "
                "larger, and both above 0."
            )


@dataclass(frozen=True)
class Patches:
    """An image's cut into patches (Dosovitskiy et al., 2021): sides in pixels."""

    image: int
    patch: int
    channels: int = 3

    @property
    def count(self) -> int:
        return (self.image // self.patch) ** 2


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and choices of a decoder, an encoder or an encoder-decoder."""

    vocabulary: int
    layers: int
    """Blocks; of an encoder-decoder, those of the encoder."""
    d_model: int
    heads: int
    key_value_heads: int
    head_dim: int
    d_feedforward: int
    context: int
    form: Form = "decoder"
    decoder_layers: int = 0
    norm: Literal["rms", "layer"] = "rms"
    norm_place: Literal["pre", "post"] = "pre"
    norm_epsilon: float = 1e-6
    embedding_norm: bool = False
    """A norm right after the embeddings (BERT)."""
    positions: Positions = "rotary"
    rope_base: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    relative_buckets: int = 32
    relative_distance: int = 128
    """T5's relative positions: how many buckets, and the distance from which on there is only one."""
    segments: int = 0
    """Kinds of segments with an embedding of their own (BERT's token types)."""
    scaled_embeddings: bool = False
    """Token embeddings times √d_model (Vaswani et al., 2017)."""
    activation: Activation = "silu"
    gated: bool = True
    query_bias: bool = False
    """Biases of the query, key and value projections."""
    output_bias: bool = False
    """Bias of attention's output projection."""
    feedforward_bias: bool = False
    qk_norm: bool = True
    scaled_attention: bool = True
    """Scores divided by √head_dim; T5 leaves that to its initialisation."""
    window: int | None = None
    """Sliding window: a token sees itself and window − 1 tokens before it (an encoder: also after it)."""
    dropout: float = 0.0
    tied_embeddings: bool = True
    head_bias: bool = False
    """A bias on the logits (Marian)."""
    scaled_head: bool = False
    """Hidden states divided by √d_model before the logits (T5 with tied embeddings)."""
    pooler: bool = False
    """A dense layer with tanh over the first token before a class head (BERT)."""
    patches: Patches | None = None
    """An encoder of images in place of tokens."""
    decoder_start: int | None = None
    """Token with which an encoder-decoder's answer begins."""

    def __post_init__(self) -> None:
        self._check_sizes()
        if self.heads % self.key_value_heads:
            raise UserError(
                f"model.heads = {self.heads} is not a multiple of model.key_value_heads = {self.key_value_heads}: "
                "choose a divisor."
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise UserError(f"The width of a head is {self.head_dim}, which is odd: rotary positions need an even one.")
        if self.form == "encoder-decoder" and self.decoder_layers < 1:
            raise UserError("An encoder-decoder needs at least one decoder layer: set model.decoder_layers.")

    def _check_sizes(self) -> None:
        """Raises UserError, naming the size, for one that no model can have."""
        names = ["layers", "d_model", "heads", "key_value_heads", "head_dim", "d_feedforward", "context"]
        least = dict.fromkeys(names if self.patches else [*names, "vocabulary"], 1)
        if self.window is not None:
            least["window"] = 1
        if self.positions == "relative":
            least |= {"relative_buckets": 4, "relative_distance": self.relative_buckets // 2 + 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UserError(
                    f"{name} = {getattr(self, name)}, but must be at least {smallest}: correct the model's sizes."
                )
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout = {self.dropout}, but must be at least 0 and below 1: correct the configuration.")
        if self.norm_epsilon < 0 or self.rope_base <= 1:
            raise UserError(
                f"norm_epsilon = {self.norm_epsilon} must not be below 0, and rope_base = {self.rope_base} must be above 1: "
                "correct the configuration."
            )
        if self.patches is not None and not 1 <= self.patches.patch <= self.patches.image:
            raise UserError(f"Patches of {self.patches.patch} pixels do not fit into images of {self.patches.image}.")
        if self.decoder_start is not None and self.decoder_start >= self.vocabulary:
            raise UserError(f"decoder_start = {self.decoder_start} is no token of a vocabulary of {self.vocabulary}.")

    @property
    def depth(self) -> int:
        """Blocks that a gradient passes through at most."""
        return self.layers + self.decoder_layers

    def extended(self, method: Literal["linear", "ntk", "yarn"], context: int) -> TransformerConfig:
        """The same weights read at a longer context. Raises UserError where the positions are not rotary.

        ntk: the base grows so that the slowest frequency is stretched by the factor and the fastest stays (the
        "NTK-aware" extension): base · factor^(head_dim / (head_dim − 2)).
        """
        if self.positions != "rotary":
            raise UserError(f"Only rotary positions can be extended; this model's are {self.positions}.")
        if self.rope_scaling is not None:
            raise UserError(
                f"This model's positions are extended already ({self.rope_scaling.kind}): start from the first model."
            )
        if context <= self.context:
            raise UserError(
                f"This model reads {self.context} tokens as it is: extend it to more than that, not {context}."
            )
        if method == "ntk" and self.head_dim < 4:
            raise UserError(
                "Heads of 2 dimensions have a single frequency, which `ntk` cannot stretch: use linear or yarn."
            )
        factor = context / self.context
        if method == "ntk":
            base = self.rope_base * factor ** (self.head_dim / (self.head_dim - 2))
            return replace(self, context=context, rope_base=base)
        return replace(self, context=context, rope_scaling=RopeScaling(method, factor, self.context))
