"""The one generator: rollouts, evaluation, chat and serving decode with it.

A cache of slots, each row with its own length; rows are admitted and leave at any step. Every row draws from random
numbers of its own, so an answer does not depend on which other rows are decoded beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.block import KeyValueCache
from headwater.models.model import Model
from headwater.progress import Progress


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. temperature 0 is greedy; top_k and top_p absent: plain sampling."""

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    stop_tokens: tuple[int, ...] = ()


@dataclass
class Answer:
    """What a row has said so far. The stop token, where there is one, is its last token."""

    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    """log π of each token at the sampling temperature, in nats."""
    ended: bool = False
    """Whether a stop token came before the limit."""


@dataclass
class _Row:
    answer: Answer
    sampling: Sampling
    uniforms: Tensor
    length: int

    @property
    def finished(self) -> bool:
        return self.answer.ended or len(self.answer.tokens) >= self.sampling.max_new_tokens


class Generator:
    """Slots over one model: `admit` prompts, `step` until `rows` is empty."""

    def __init__(self, model: Model, slots: int, capacity: int) -> None:
        self.model = model
        self.capacity = capacity
        self.cache = KeyValueCache(model.config, slots, capacity, model.backbone.embedding.weight.dtype)
        self.slots = slots
        self.rows: list[_Row] = []

    @torch.inference_mode()
    def admit(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Takes prompts into free slots, computes their keys and values, and draws each row's first token.

        Raises UserError where a prompt is empty or longer than the model's context.
        """
        new = [self._row(list(prompt), sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        if len(self.rows) + len(new) > self.slots:
            raise ValueError("more rows than slots")
        first = len(self.rows)
        self.rows += new
        lengths = torch.tensor([row.length for row in new])
        ids = torch.zeros(len(new), int(lengths.max()), dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        self._forward(ids, torch.arange(first, first + len(new)), torch.zeros_like(lengths), lengths, new)
        self._release()
        return [row.answer for row in new]

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row; finished rows leave."""
        lengths = torch.tensor([row.length for row in self.rows])
        ids = torch.tensor([[row.answer.tokens[-1]] for row in self.rows])
        for row in self.rows:
            row.length += 1
        self._forward(ids, torch.arange(len(self.rows)), lengths, torch.ones_like(lengths), self.rows)
        self._release()

    def _row(self, prompt: list[int], sampling: Sampling, seed: int) -> _Row:
        room = self.capacity - len(prompt)
        if not prompt or room < 1:
            raise UserError(
                f"A prompt of {len(prompt)} tokens does not fit: it must have at least 1 and leave room for an answer "
                f"within {self.capacity}; shorten it."
            )
        sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))
        generator = torch.Generator().manual_seed(seed)
        uniforms = torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64)
        return _Row(Answer(prompt), sampling, uniforms, len(prompt))

    def _forward(self, ids: Tensor, slots: Tensor, starts: Tensor, lengths: Tensor, rows: list[_Row]) -> None:
        self.cache.rows, self.cache.starts = slots, starts
        self.cache.span = int(starts.max()) + ids.shape[1]
        hidden = self.model.backbone(ids, cache=self.cache)
        logits = self.model.language_model(hidden[torch.arange(len(ids)), lengths - 1]).float()
        for row, (token, log_probability) in zip(rows, choose(logits, rows), strict=True):
            row.answer.tokens.append(token)
            row.answer.log_probabilities.append(log_probability)
            row.answer.ended = token in row.sampling.stop_tokens

    def _release(self) -> None:
        """Finished rows leave; the last rows move into their slots, so that active slots stay in front."""
        index = 0
        while index < len(self.rows):
            if not self.rows[index].finished:
                index += 1
                continue
            last = self.rows.pop()
            if index < len(self.rows):
                self.cache.move(len(self.rows), index)
                self.rows[index] = last


def choose(logits: Tensor, rows: Sequence[_Row]) -> list[tuple[int, float]]:
    """Draws each row's next token from [rows, vocabulary] logits by inverting its cumulative distribution.

    The log-probability is that of the full distribution at the row's temperature, before top-k and top-p.
    """
    temperatures = torch.tensor([row.sampling.temperature or 1.0 for row in rows])
    log_probabilities = (logits / temperatures[:, None]).log_softmax(dim=-1)
    weights = log_probabilities.exp().double()
    for index, row in enumerate(rows):
        if row.sampling.top_k is not None or row.sampling.top_p is not None:
            weights[index] = truncate(weights[index], row.sampling.top_k, row.sampling.top_p)
    cumulative = weights.cumsum(dim=-1)
    uniforms = torch.stack([row.uniforms[len(row.answer.tokens)] for row in rows])
    drawn = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)[:, 0]
    greedy = torch.tensor([row.sampling.temperature == 0 for row in rows])
    tokens = torch.where(greedy, logits.argmax(dim=-1), drawn.clamp(max=logits.shape[-1] - 1))
    chosen = log_probabilities.gather(1, tokens[:, None])[:, 0]
    return list(zip(tokens.tolist(), chosen.tolist(), strict=True))


def truncate(weights: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Zeroes all but the `top_k` likeliest tokens and the smallest set with probability ≥ `top_p`. weights: [vocabulary]."""
    ordered, order = weights.sort(descending=True, stable=True)
    kept = torch.ones_like(ordered, dtype=torch.bool)
    if top_k is not None:
        kept[top_k:] = False
    if top_p is not None:
        kept &= ordered.cumsum(0) - ordered < top_p * ordered.sum()
    return torch.zeros_like(weights).scatter(0, order[kept], ordered[kept])


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    slots: int = 64,
    label: str = "",
) -> list[Answer]:
    """Answers to prompts, in their order; `seeds` has one per prompt. At most `slots` rows are decoded side by side.

    With a `label`, a progress bar shows how many are finished.
    """
    if not prompts:
        return []
    longest = max(len(prompt) for prompt in prompts)
    capacity = min(model.config.context, longest + sampling.max_new_tokens)
    generator = Generator(model, min(slots, len(prompts)), capacity)
    answers: list[Answer] = []
    with Progress(label, len(prompts)) if label else nullcontext() as bar:
        while len(answers) < len(prompts) or generator.rows:
            free = generator.slots - len(generator.rows)
            waiting = slice(len(answers), len(answers) + free)
            if prompts[waiting] and free >= min(generator.slots // 4 + 1, len(prompts) - len(answers)):
                answers += generator.admit(prompts[waiting], sampling, seeds[waiting])
            if generator.rows:
                generator.step()
            if bar is not None:
                bar.advance(len(answers) - len(generator.rows) - bar.done)
    return answers


def stream(model: Model, prompt: Sequence[int], sampling: Sampling, seed: int) -> Iterator[int]:
    """One answer, token by token."""
    generator = Generator(model, 1, min(model.config.context, len(prompt) + sampling.max_new_tokens))
    (answer,) = generator.admit([prompt], sampling, [seed])
    yield answer.tokens[0]
    while generator.rows:
        generator.step()
        yield answer.tokens[-1]
