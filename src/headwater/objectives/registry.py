"""All objectives by name, and what pretraining with one of them needs. Nothing heavy is imported until one is made."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from headwater.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from headwater.corpus.tokenizer import Tokenizer
    from headwater.models.config import Form, TransformerConfig
    from headwater.models.model import Kind, Model
    from headwater.training.batch import Batch, Row
    from headwater.training.engine import Term

OBJECTIVES = {
    "causal": "headwater.objectives.causal:CausalLM",
    "prefix": "headwater.objectives.prefix:PrefixLM",
    "masked": "headwater.objectives.masked:MaskedLM",
    "denoising": "headwater.objectives.denoising:Denoising",
    "sequence": "headwater.objectives.sequence:SequenceToSequence",
    "supervised": "headwater.objectives.supervised:Supervised",
    "classification": "headwater.objectives.classification:Classification",
    "span": "headwater.objectives.span:AnswerSpan",
    "preference": "headwater.objectives.preference:Preference",
    "direct-preference": "headwater.objectives.direct_preference:DirectPreference",
    "policy": "headwater.objectives.policy:Policy",
}
"""Name → where its class is. `tests/contracts/test_objectives.py` tests each."""


def objective_class(name: str) -> Any:
    """The class of an objective."""
    module, _, kind = OBJECTIVES[name].partition(":")
    return getattr(importlib.import_module(module), kind)


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
    """What pretraining with an objective needs. `make` is absent where texts are packed (causal)."""

    form: Form
    kind: Kind
    sentinels: int = 0
    """Tokens that the tokenizer reserves for what is masked or cut out."""
    make: Callable[..., TextObjective] | None = None
    """(tokenizer, seed) → the objective; `masked` and `denoising` also take the share of tokens that are predicted."""


def _prefix(_: Tokenizer, seed: int) -> TextObjective:
    return objective_class("prefix")(seed)  # type: ignore[no-any-return]


def _masked(tokenizer: Tokenizer, seed: int, **share: float) -> TextObjective:
    from headwater.corpus.segmentation import chinese_words, word_groups

    words = partial(word_groups, bytes_of=tokenizer.bytes_of, segment=chinese_words())
    control = control_tokens(tokenizer)
    return objective_class("masked")(tokenizer.mask, tokenizer.vocabulary, words, seed, control, **share)  # type: ignore[no-any-return]


def _denoising(tokenizer: Tokenizer, seed: int, **share: float) -> TextObjective:
    from headwater.models.presets import DECODER_START

    return objective_class("denoising")(  # type: ignore[no-any-return]
        tokenizer.sentinels, seed, DECODER_START, control_tokens(tokenizer), **share
    )


def control_tokens(tokenizer: Tokenizer) -> list[int]:
    """Tokens that are no text."""
    return [token for token in range(tokenizer.vocabulary) if not tokenizer.bytes_of(token)]


HELD_OUT_SHARE = 0.15
"""Of the tokens that are masked or cut out where a model is measured, whatever it was trained with."""

PRETRAINING: dict[str, Pretraining] = {
    "causal": Pretraining("decoder", "language-model"),
    "prefix": Pretraining("decoder", "language-model", make=_prefix),
    "masked": Pretraining("encoder", "masked", sentinels=1, make=_masked),
    "denoising": Pretraining("encoder-decoder", "language-model", sentinels=64, make=_denoising),
}


def check_fits(objective: str, architecture: str, model: TransformerConfig, mask_share: float) -> None:
    """Raises UserError where a model of this form cannot learn the objective."""
    from headwater.models.presets import PRESETS

    needed = PRETRAINING[objective].form
    fitting = [name for name, preset in PRESETS.items() if preset.choices.get("form", "decoder") == needed]
    if model.form != needed or (objective == "prefix" and architecture not in PRESETS):
        what = "a Transformer that is a decoder" if objective == "prefix" else f"an {needed}".replace("an d", "a d")
        raise UserError(
            f"pretrain.objective = {objective} needs {what}, which pretrain.model.architecture = {architecture} is not: "
            f"choose {', '.join(fitting[:-1])} or {fitting[-1]}."
        )
    # A sentinel for each span of three tokens; held-out texts always have HELD_OUT_SHARE cut out.
    longest = int(3 * (PRETRAINING[objective].sentinels - 1) / max(mask_share, HELD_OUT_SHARE))
    if objective == "denoising" and model.context > longest:
        raise UserError(
            f"pretrain.model.context = {model.context} is too long for pretrain.objective = denoising, which at "
            f"pretrain.mask_share = {mask_share:g} has sentinels for {longest:,} tokens: make it shorter."
        )
