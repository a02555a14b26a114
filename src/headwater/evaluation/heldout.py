"""What pretraining is measured by, on the way and in the end: its loss on held-out texts, beside that of knowing frequencies alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from headwater.corpus.shards import Shards
from headwater.corpus.tokenizer import Tokenizer
from headwater.evaluation.perplexity import Text, bits_per_byte
from headwater.models.decoding import resting
from headwater.models.generate import Sampling, generate
from headwater.models.heads import IGNORED
from headwater.models.model import Model
from headwater.objectives.causal import CausalLM
from headwater.objectives.pretraining import TextObjective, control_tokens
from headwater.training.batch import READ_BUDGET, Row, split_by_tokens
from headwater.training.learner import Learner
from headwater.training.source import parts

QUICK = 100
"""Held-out documents measured on the way, of all sources alike; all of them at the end."""
COUNTED = 20_000
"""Training documents, evenly spread, whose targets are counted for the unigram loss."""


class HeldOut(Protocol):
    """Held-out texts and how a model is measured on them."""

    metric: str
    """The measure that is to fall."""

    def quick(self, model: Model) -> dict[str, float]:
        """The metric on some of the texts."""

    def whole(self, model: Model) -> dict[str, Any]:
        """All that is to be said of the finished model. Losses are in nats per target."""


class HeldOutText:
    """For models that write: bits per byte."""

    metric = "bits_per_byte"

    def __init__(self, train: Shards, heldout: Shards, tokenizer: Tokenizer, context: int) -> None:
        self.train, self.vocabulary = train, tokenizer.vocabulary
        self.texts = document_rows(heldout, tokenizer, context)

    def quick(self, model: Model) -> dict[str, float]:
        return {self.metric: bits_per_byte(model, self.texts[:: -(-len(self.texts) // QUICK)])["all"]}

    def whole(self, model: Model) -> dict[str, Any]:
        measured = bits_per_byte(model, self.texts)
        together = measured.pop("all")
        targets = torch.cat([text.row.per_token["targets"] for text in self.texts])
        nats = together * math.log(2) * sum(text.bytes for text in self.texts)
        rows = (CausalLM().prepare(self.train.document(index).tolist()) for index in _spread(self.train))
        counts = target_counts(rows, self.vocabulary)
        return {
            self.metric: together,
            "bits_per_byte_by_source": measured,
            "heldout_loss": nats / max(1, len(targets)),
            "unigram_loss": float(unigram_losses(counts, targets).mean()),
        }


class HeldOutTargets:
    """For the other objectives: their loss, on rows that are always prepared alike."""

    metric = "heldout_loss"

    def __init__(
        self, objective: TextObjective, train: Shards, heldout: Shards, tokenizer: Tokenizer, context: int
    ) -> None:
        self.objective, self.train, self.context = objective, train, context
        self.vocabulary, self.control = tokenizer.vocabulary, torch.tensor(control_tokens(tokenizer))
        documents = [part for index in range(len(heldout)) for part in parts(heldout.document(index).tolist(), context)]
        self.rows = [objective.prepare(document, index) for index, document in enumerate(documents)]

    def quick(self, model: Model) -> dict[str, float]:
        losses, _ = target_losses(self.objective, model, self.rows[:: -(-len(self.rows) // QUICK)])
        return {self.metric: float(losses.mean())}

    def whole(self, model: Model) -> dict[str, Any]:
        """Also apart from sentinels and other control tokens, which are no text and easily foretold."""
        losses, targets = target_losses(self.objective, model, self.rows)
        rows = (
            self.objective.prepare(part, index)
            for index in _spread(self.train)
            for part in parts(self.train.document(index).tolist(), self.context)
        )
        known = unigram_losses(target_counts(rows, self.vocabulary), targets)
        text = ~torch.isin(targets, self.control)
        return {
            self.metric: float(losses.mean()),
            "unigram_loss": float(known.mean()),
            "heldout_text_loss": float(losses[text].mean()),
            "unigram_text_loss": float(known[text].mean()),
            "heldout_targets": len(targets),
        }


class HeldOutEvaluation:
    """The tokens that were read after each step and, every so many steps and after the last, the held-out metric and of
    models that write a sample: the hook of the engine.
    """

    def __init__(
        self,
        model: Model,
        learner: Learner,
        tokenizer: Tokenizer,
        heldout: HeldOut,
        *,
        every: int,
        steps: int,
        tokens_per_step: int,
    ) -> None:
        self.model, self.learner, self.tokenizer, self.heldout = model, learner, tokenizer, heldout
        self.every, self.steps, self.tokens_per_step = every, steps, tokens_per_step

    def __call__(self, step: int, metrics: dict[str, float]) -> dict[str, Any]:  # noqa: ARG002
        line: dict[str, Any] = {"tokens": step * self.tokens_per_step}
        if step % self.every and step != self.steps:
            return line
        with self.learner.as_released(), resting(self.model):
            line |= self.heldout.quick(self.model)
            if self.model.config.form == "decoder":
                sampling = Sampling(40, temperature=0.7, stop_tokens=(self.tokenizer.end_of_text,))
                (answer,) = generate(self.model, [[self.tokenizer.end_of_text]], sampling, seeds=[step])
                line["sample"] = self.tokenizer.decode(answer.tokens)
        return line


def target_losses(objective: TextObjective, model: Model, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """−log p of every target in nats, and the targets; [targets] each, in no particular order."""
    losses, targets = [], []
    with torch.inference_mode():
        for batch in split_by_tokens(rows, READ_BUDGET):
            learnt = batch.per_token["targets"] != IGNORED
            chosen = batch.per_token["targets"][learnt]
            hidden = objective.hidden({"model": model}, batch)[learnt]
            losses.append(model.language_model.token_losses(hidden, chosen))
            targets.append(chosen)
    return torch.cat(losses), torch.cat(targets)


def target_counts(rows: Iterable[Row], vocabulary: int) -> Tensor:
    """How often each token is a target, [vocabulary]."""
    counts = torch.zeros(vocabulary, dtype=torch.long)
    for row in rows:
        targets = row.per_token["targets"]
        counts += targets[targets != IGNORED].bincount(minlength=vocabulary)
    return counts


def unigram_losses(counts: Tensor, targets: Tensor) -> Tensor:
    """−log p of each target in nats where only frequencies are known; every token is counted once more (Laplace)."""
    return -((counts[targets] + 1) / (counts.sum() + len(counts))).double().log()


def document_rows(shards: Shards, tokenizer: Tokenizer, context: int) -> list[Text]:
    """Held-out documents as rows; cut at the context, with the bytes that are left."""
    texts = []
    for index in range(len(shards)):
        ids = shards.document(index).tolist()
        size = shards.bytes_of(index)
        if len(ids) > context + 1:
            ids = ids[: context + 1]
            size = len(tokenizer.decode_bytes(ids[1:]))
        texts.append(Text(CausalLM().prepare(ids), size, shards.source_of(index)))
    return texts


def _spread(shards: Shards) -> range:
    """Documents to be counted: all, or so many of all."""
    return range(0, len(shards), -(-len(shards) // COUNTED))
