"""The one generator: rollouts, evaluation, chat and serving decode with it.

A cache of slots, each row with its own length; rows are admitted and leave at any step. Every row draws from random
numbers of its own, so an answer does not depend on which other rows are decoded beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.cache import Cache, KeyValueCache
from headwater.models.model import Model
from headwater.models.sampling import Sampling, choose
from headwater.models.shared_start import can_share, common_length
from headwater.models.transcript import Decode, Transcript
from headwater.progress import Progress

__all__ = ["Answer", "Ending", "Generator", "Sampling", "generate", "stream", "stream_text"]

Ending = Literal["stop token", "stop string", "length"]
"""Why an answer ended; "length": at its limit or at the end of the model's context."""


@dataclass
class Answer:
    """What a row has said so far. The stop token, where there is one, is its last token."""

    prompt: list[int]
    """What was asked: the tokens before the answer, or an encoder-decoder's source."""
    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    """log π of each token at the sampling temperature, in nats."""
    ended: bool = False
    """Whether a stop token or a stop string came before the limit."""
    ending: Ending | None = None
    """Why it ended; None while it goes on."""
    text: str = ""
    """Where the generator has a decoder: what may be shown so far. Whole characters, cut before a stop string; a part
    of the tokens' text is held back as long as it may be the beginning of one."""


@dataclass
class _Row:
    answer: Answer
    sampling: Sampling
    uniforms: Tensor
    begin: list[int]
    """What stands before the answer in the decoder."""
    length: int
    """Tokens of the row in the cache."""
    transcript: Transcript | None

    def take(self, token: int, log_probability: float) -> None:
        """The row's next token."""
        answer = self.answer
        answer.tokens.append(token)
        answer.log_probabilities.append(log_probability)
        if token in self.sampling.stop_tokens:
            answer.ending = "stop token"
        elif len(answer.tokens) >= self.sampling.max_new_tokens:
            answer.ending = "length"
        if self.transcript is not None:
            self._write(self.transcript)
        answer.ended = answer.ending in ("stop token", "stop string")

    def _write(self, transcript: Transcript) -> None:
        answer = self.answer
        if answer.ending != "stop token":
            transcript.add(answer.tokens[-1])
        if transcript.stopped:
            answer.ending = "stop string"
        if answer.ending is not None:
            transcript.finish()
        answer.text = transcript.text


class Generator:
    """Slots over one model: `admit` prompts, `step` until `rows` is empty.

    capacity: tokens of a row, prompt and answer. decode: gives the answers their texts; stop strings need it.
    """

    def __init__(self, model: Model, slots: int, capacity: int, decode: Decode | None = None) -> None:
        self.model = model
        self.capacity = capacity
        self.decode = decode
        self.cache = model.backbone.new_cache(slots, capacity, model.dtype)
        self.slots = slots
        self.rows: list[_Row] = []

    @torch.inference_mode()
    def admit(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Takes prompts into free slots, computes their keys and values, and draws each row's first token.

        An encoder-decoder's prompts are its sources: they are encoded here, once.
        Raises UserError where a prompt is empty or longer than the model's context.
        """
        new = [self._row(list(prompt), sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        if len(self.rows) + len(new) > self.slots:
            raise ValueError("more rows than slots")
        slots = torch.arange(len(self.rows), len(self.rows) + len(new))
        self.rows += new
        if is_encoder_decoder(self.model):
            with resting(self.model):
                sources, documents = padded(prompts)
                self.cache.remember(slots, self.model.backbone.encode(sources, documents), documents)
        shared = self._read_shared_start([row.begin for row in new], slots)
        ids, real = padded([row.begin[shared:] for row in new])
        self._forward(ids, slots, torch.full_like(slots, shared), real.sum(dim=1), new)
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

    def _read_shared_start(self, begins: Sequence[list[int]], slots: Tensor) -> int:
        """Computes the keys and values of the beginning that rows have in common, once, and returns its length."""
        with resting(self.model):
            length = common_length(begins) if can_share(self.model.backbone) else 0
            if length:
                self.cache.begin(slots[:1], torch.zeros(1, dtype=torch.long), torch.full((1,), length))
                self.model.backbone(torch.tensor([begins[0][:length]]), cache=self.cache)
                cast(KeyValueCache, self.cache).spread(int(slots[0]), slots[1:], length)
        return length

    def _row(self, prompt: list[int], sampling: Sampling, seed: int) -> _Row:
        begin = first_tokens(self.model, prompt)
        room = self.capacity - len(begin)
        if room < 1:
            raise too_long(prompt, self.capacity)
        if sampling.stop_strings and self.decode is None:
            raise ValueError("stop strings need a generator with a decoder")
        sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))
        generator = torch.Generator().manual_seed(seed)
        uniforms = torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64)
        transcript = Transcript(self.decode, sampling.stop_strings) if self.decode is not None else None
        return _Row(Answer(prompt), sampling, uniforms, begin, len(begin), transcript)

    def _forward(self, ids: Tensor, slots: Tensor, starts: Tensor, lengths: Tensor, rows: list[_Row]) -> None:
        with resting(self.model):
            logits = next_logits(self.model, self.cache, ids, slots, starts, lengths)
        chosen = choose(
            logits,
            [row.sampling for row in rows],
            torch.stack([row.uniforms[len(row.answer.tokens)] for row in rows]),
            [row.begin for row in rows],
            [row.answer.tokens for row in rows],
        )
        for row, (token, log_probability) in zip(rows, chosen, strict=True):
            row.take(token, log_probability)

    def _release(self) -> None:
        """Finished rows leave; the last rows move into their slots, so that active slots stay in front."""
        index = 0
        while index < len(self.rows):
            if self.rows[index].answer.ending is None:
                index += 1
                continue
            last = self.rows.pop()
            if index < len(self.rows):
                self.cache.move(len(self.rows), index)
                self.rows[index] = last


def next_logits(model: Model, cache: Cache, ids: Tensor, slots: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Logits of the token after each row's new ones, [batch, vocabulary] in fp32.

    ids: [batch, time], padded on the right; slots, starts, lengths: [batch] each, as `Cache.begin` takes them.
    """
    cache.begin(slots, starts, lengths)
    decode = model.backbone.decode if is_encoder_decoder(model) else model.backbone
    hidden = decode(ids, cache=cache)
    logits: Tensor = model.language_model(hidden[torch.arange(len(ids)), lengths - 1])
    return logits.float()


@contextmanager
def resting(model: Model) -> Iterator[None]:
    """Without dropout; afterwards the model trains on where it did."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def is_encoder_decoder(model: Model) -> bool:
    """Whether prompts are sources that an encoder reads."""
    return model.config.form == "encoder-decoder"


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of token ids → ids and documents [batch, longest]: 1 for real tokens, 0 for the padding on the right."""
    longest = max(len(row) for row in rows)
    ids, documents = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        documents[index, : len(row)] = 1
    return ids, documents


def first_tokens(model: Model, prompt: Sequence[int]) -> list[int]:
    """What the decoder begins with: the prompt, or an encoder-decoder's start token. UserError where it has no room."""
    context = model.config.context
    if not is_encoder_decoder(model):
        if not prompt or len(prompt) >= context:
            raise too_long(prompt, context)
        return list(prompt)
    if not prompt or len(prompt) > context:
        raise UserError(
            f"A source of {len(prompt)} tokens does not fit: it must have at least 1 and at most {context}; shorten it."
        )
    assert model.answer_start is not None
    return [model.answer_start]


def too_long(prompt: Sequence[int], limit: int) -> UserError:
    """A prompt without tokens, or without room for an answer within `limit` tokens."""
    return UserError(
        f"A prompt of {len(prompt)} tokens does not fit: it must have at least 1 and leave room for an answer "
        f"within {limit}; shorten it."
    )


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    slots: int = 64,
    label: str = "",
    decode: Decode | None = None,
) -> list[Answer]:
    """Answers to prompts, in their order; `seeds` has one per prompt. At most `slots` rows are decoded side by side.

    An encoder-decoder's prompts are its sources. With a `label`, a progress bar shows how many are finished. With a
    `decode`, as `tokenizer.decode`, answers have their texts, and stop strings work.
    """
    if not prompts:
        return []
    generator = Generator(model, min(slots, len(prompts)), _capacity(model, prompts, sampling), decode)
    answers: list[Answer] = []
    with resting(model), Progress(label, len(prompts)) if label else nullcontext() as bar:
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


def stream(
    model: Model, prompt: Sequence[int], sampling: Sampling, seed: int, decode: Decode | None = None
) -> Iterator[int]:
    """One answer, token by token."""
    for answer in _steps(model, prompt, sampling, seed, decode):
        yield answer.tokens[-1]


def stream_text(model: Model, prompt: Sequence[int], sampling: Sampling, seed: int, decode: Decode) -> Iterator[str]:
    """One answer's text, piece by piece: whole characters, and nothing that a stop string cuts off."""
    shown = 0
    for answer in _steps(model, prompt, sampling, seed, decode):
        if len(answer.text) > shown:
            yield answer.text[shown:]
            shown = len(answer.text)


def _steps(
    model: Model, prompt: Sequence[int], sampling: Sampling, seed: int, decode: Decode | None
) -> Iterator[Answer]:
    """The same answer after each of its tokens."""
    generator = Generator(model, 1, _capacity(model, [prompt], sampling), decode)
    (answer,) = generator.admit([prompt], sampling, [seed])
    yield answer
    while generator.rows:
        generator.step()
        yield answer


def _capacity(model: Model, prompts: Sequence[Sequence[int]], sampling: Sampling) -> int:
    """Tokens of the longest row, at most the model's context."""
    longest = 1 if is_encoder_decoder(model) else max(len(prompt) for prompt in prompts)
    return min(model.config.context, longest + sampling.max_new_tokens)
