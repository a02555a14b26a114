"""What pretraining with an objective needs, and the model it begins with. Nothing heavy is imported until one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from headwater.errors import UserError
from headwater.objectives.registry import objective_class

if TYPE_CHECKING:
    from torch import Tensor

    from headwater.corpus.tokenizer import Tokenizer
    from headwater.models.config import Form, TransformerConfig
    from headwater.models.model import Kind, Model
    from headwater.stages.settings import PretrainSettings
    from headwater.training.batch import Batch, Row
    from headwater.training.engine import Term

MASK_SHARE = 0.15
"""Of the tokens that are masked or cut out (Devlin et al., 2019; Raffel et al., 2020): where nothing else is asked, and
always where a model is measured."""


class TextObjective(Protocol):
    """An objective that makes rows of single texts and predicts tokens in them."""

    def prepare(self, tokens: Sequence[int], index: int, /) -> Row:
        """A text's tokens → a row; what is random in it is a function of the objective's seed and of `index`."""

    def counts(self, batch: Batch) -> dict[str, float]: ...

    def hidden(self, modules: Mapping[str, Model], batch: Batch) -> Tensor:
        """The states that predict the targets, [rows, time, d_model]."""

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]: ...


@dataclass(frozen=True)
class Pretraining:
    """What pretraining with an objective needs."""

    form: Form
    kind: Kind
    make: Callable[[Tokenizer, int, float], TextObjective] | None = None
    """(tokenizer, seed, share of the tokens that are masked) → the objective; absent where texts are packed (causal)."""
    masks: bool = False
    """Whether a share of the tokens is masked or cut out."""
    sentinels: int = 0
    """Tokens that the tokenizer reserves for what is masked or cut out."""
    tokens_per_sentinel: int | None = None
    """Masked tokens for which one sentinel stands, in the mean; absent where one stands for any number."""
    transformer_only: bool = False


def _prefix(_: Tokenizer, seed: int, share: float) -> TextObjective:  # noqa: ARG001
    return objective_class("prefix")(seed)  # type: ignore[no-any-return]


def _masked(tokenizer: Tokenizer, seed: int, share: float) -> TextObjective:
    from headwater.corpus.segmentation import chinese_words, word_groups

    words = partial(word_groups, bytes_of=tokenizer.bytes_of, segment=chinese_words())
    control = control_tokens(tokenizer)
    return objective_class("masked")(tokenizer.mask, tokenizer.vocabulary, words, seed, control, share=share)  # type: ignore[no-any-return]


def _denoising(tokenizer: Tokenizer, seed: int, share: float) -> TextObjective:
    from headwater.models.presets import DECODER_START

    return objective_class("denoising")(  # type: ignore[no-any-return]
        tokenizer.sentinels, seed, DECODER_START, control_tokens(tokenizer), share=share
    )


def control_tokens(tokenizer: Tokenizer) -> list[int]:
    """Tokens that are no text."""
    return [token for token in range(tokenizer.vocabulary) if not tokenizer.bytes_of(token)]


PRETRAINING: dict[str, Pretraining] = {
    "causal": Pretraining("decoder", "language-model"),
    "prefix": Pretraining("decoder", "language-model", _prefix, transformer_only=True),
    "masked": Pretraining("encoder", "masked", _masked, masks=True, sentinels=1),
    "denoising": Pretraining(
        "encoder-decoder", "language-model", _denoising, masks=True, sentinels=64, tokens_per_sentinel=3
    ),
}


def check_fits(objective: str, architecture: str, model: TransformerConfig, mask_share: float) -> None:
    """Raises UserError where a model of this form cannot learn the objective."""
    from headwater.models.presets import PRESETS

    needs = PRETRAINING[objective]
    fitting = [name for name, preset in PRESETS.items() if preset.choices.get("form", "decoder") == needs.form]
    if model.form != needs.form or (needs.transformer_only and architecture not in PRESETS):
        one = f"an {needs.form}".replace("an d", "a d")
        what = f"a Transformer that is {one}" if needs.transformer_only else one
        raise UserError(
            f"pretrain.objective = {objective} needs {what}, which pretrain.model.architecture = {architecture} is not: "
            f"choose {', '.join(fitting[:-1])} or {fitting[-1]}."
        )
    if needs.tokens_per_sentinel is None:
        return
    # The last sentinel ends the target; held-out texts always have MASK_SHARE cut out.
    longest = int(needs.tokens_per_sentinel * (needs.sentinels - 1) / max(mask_share, MASK_SHARE))
    if model.context > longest:
        raise UserError(
            f"pretrain.model.context = {model.context} is too long for pretrain.objective = {objective}, which at "
            f"pretrain.mask_share = {mask_share:g} has sentinels for {longest:,} tokens: make it shorter."
        )


def build_model(settings: PretrainSettings, vocabulary: int, seed: int) -> Model:
    """The model with which a recipe's pretraining begins; its weights depend on the settings and the seed alone."""
    from headwater.models.model import Model
    from headwater.models.presets import PRESETS, Preset, config_of, with_checkpointing

    dials = settings.model
    kind = PRETRAINING[settings.objective].kind
    preset = PRESETS.get(dials.architecture, Preset())
    model = Model(config_of(dials, vocabulary), kind).initialise(seed, dials.initialisation or preset.initialisation)
    return with_checkpointing(model, dials.gradient_checkpointing)
