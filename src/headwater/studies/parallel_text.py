"""Parallel text for a study: files of sentences → tokens, batches of pairs of like length, and translations to measure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from headwater.corpus.tokenizer import Tokenizer, train_tokenizer
from headwater.errors import UserError
from headwater.models.beam import beam_search
from headwater.models.decoding import resting
from headwater.models.generate import generate
from headwater.models.model import Model
from headwater.models.sampling import Sampling
from headwater.objectives.sequence import SequenceToSequence
from headwater.tasks.translation import Pair, read_aligned
from headwater.training.batch import Batch, Row, collate, split_by_tokens
from headwater.training.source import permutation


def files(given: Sequence[str | None]) -> list[Path] | str:
    """The files of these paths, or why there are none: `$NAME` in a path is a variable of the environment, and data
    behind one are optional; a plain path must be there."""
    paths = []
    for text in given:
        if text is None:
            return "no parallel text is named"
        unset = [name for name in re.findall(r"\$\{?(\w+)", text) if name not in os.environ]
        if unset:
            return f"{unset[0]} is not set in the environment"
        path = Path(os.path.expandvars(text))
        if "$" in text and not path.is_file():
            return f"there is no file {path}"
        paths.append(path)
    return paths


class ParallelText:
    """Sentence pairs to learn from and held-out ones, and the tokenizer of both languages."""

    def __init__(self, places: Sequence[Path], vocabulary: int, context: int) -> None:
        """places: source, target, held-out source and target. context: the longest sequence that the model takes.

        Raises UserError where a file cannot be used, or no pair fits.
        """
        self.context = context
        self.train, self.heldout = read_aligned(places[0], places[1]), read_aligned(places[2], places[3])
        sentences = (sentence for pair in self.train for sentence in (pair.source, pair.target))
        self.tokenizer: Tokenizer = train_tokenizer(sentences, vocabulary)
        assert self.tokenizer.eos is not None
        self.end = self.tokenizer.eos

    def rows(self, pairs: Sequence[Pair], objective: SequenceToSequence) -> list[Row]:
        """Pairs as rows to learn from, both sides closed; those longer than the context are left out."""
        sources = self.sources([pair.source for pair in pairs])
        targets = self.tokenizer.encode_batch([pair.target for pair in pairs])
        rows = [
            objective.pair(source, [*target, self.end])
            for source, target in zip(sources, targets, strict=True)
            if max(len(source), len(target) + 1) <= self.context
        ]
        if not rows:
            raise UserError(f"No sentence pair fits into {self.context} tokens: make `text.context` larger.")
        return rows

    def sources(self, sentences: Sequence[str]) -> list[list[int]]:
        """What the encoder reads. The closing token is what rotary positions, which only tell distances, count from."""
        return [[*tokens, self.end] for tokens in self.tokenizer.encode_batch(sentences)]

    def translate(self, model: Model, sentences: Sequence[str], beams: int, length_penalty: float) -> list[str]:
        """The model's translations; greedy where `beams` is 1. What is too long to be read is cut."""
        sources = [tokens[: self.context] for tokens in self.sources(sentences)]
        limit = self.context - 1
        if beams == 1:
            sampling = Sampling(limit, temperature=0, stop_tokens=(self.end,))
            answers = [answer.tokens for answer in generate(model, sources, sampling, [0] * len(sources))]
        else:
            found = beam_search(model, sources, beams, limit, length_penalty, (self.end,))
            answers = [hypotheses[0].tokens for hypotheses in found]
        return [self.tokenizer.decode(tokens).strip() for tokens in answers]


class LikeLengths:
    """Step, from 0 → a batch of rows of like length, of at most `budget` tokens with padding. An epoch has every row once.

    The order of batches, and which rows of one length are together, is drawn anew for each epoch, from seed and epoch
    alone. Where batches begin follows from the lengths, so every epoch has as many.
    """

    def __init__(self, rows: Sequence[Row], seed: int, budget: int) -> None:
        self.rows, self.seed, self.budget = rows, seed, budget
        self._epoch = (0, self._batches(0))
        self.per_epoch = len(self._epoch[1])

    def __call__(self, step: int) -> list[Batch]:
        epoch, place = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._batches(epoch))
        return [self._epoch[1][place]]

    def _batches(self, epoch: int) -> list[Batch]:
        shuffled = [self.rows[index] for index in permutation(self.seed, epoch, len(self.rows)).tolist()]
        batches = split_by_tokens(shuffled, self.budget)
        return [batches[index] for index in permutation(self.seed + 1, epoch, len(batches)).tolist()]


@torch.no_grad()
def heldout_loss(model: Model, rows: Sequence[Row], start: int, rows_per_batch: int = 64) -> float:
    """Cross-entropy in nats per target token, without label smoothing and dropout."""
    objective = SequenceToSequence(start)
    modules: Mapping[str, Model] = {"model": model}
    ordered = sorted(rows, key=len)
    total = count = 0.0
    with resting(model):
        for first in range(0, len(ordered), rows_per_batch):
            batch = collate(ordered[first : first + rows_per_batch])
            total += float(objective.loss(modules, batch)["loss"].sum)
            count += objective.counts(batch)["loss"]
    return total / count
