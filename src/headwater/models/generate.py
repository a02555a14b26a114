"""The one generator: rollouts, evaluation, chat and serving decode with it.

A cache of slots, each row with its own length; rows are admitted and leave at any step. Every row draws from random
numbers of its own, so an answer does not depend on which other rows are decoded beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.answer import Answer, Ending, Row
from headwater.models.cache import Cache, KeyValueCache
from headwater.models.model import Model
from headwater.models.prefixes import Prefixes, common
from headwater.models.sampling import Sampling, choose, likeliest
from headwater.models.shared_start import can_share, common_length
from headwater.models.transcript import Decode, Transcript
from headwater.progress import Progress

__all__ = ["Answer", "Ending", "Generator", "Sampling", "generate", "stream", "stream_text"]

_WORTH_WAITING = 16
"""Tokens of a common beginning for which a prompt waits until another one is read."""


class Generator:
    """Slots over one model: `admit` prompts, `step` until `rows` is empty. Or `begin` prompts and `read` them piece by
    piece, with steps for the others between.

    capacity: tokens of a row, prompt and answer. decode: gives the answers their texts; stop strings need it. kept: rows
    that have left, the last used ones, whose keys and values are kept: a prompt that begins like one of them, such as a
    dialogue's next turn, is read from where they part. Memory is (slots + kept) · capacity tokens, taken beforehand.
    """

    def __init__(self, model: Model, slots: int, capacity: int, decode: Decode | None = None, kept: int = 0) -> None:
        self.model = model
        self.capacity = capacity
        self.decode = decode
        kept = kept if can_share(model.backbone) else 0
        self.cache = model.backbone.new_cache(slots + kept, capacity, model.dtype)
        self.slots = slots
        self.rows: list[Row] = []
        self.reading: list[Row] = []
        """Rows whose prompts are not read to their end; their slots follow those of `rows`."""
        self.prefixes = Prefixes(range(slots, slots + kept))

    @property
    def free(self) -> int:
        """Slots without a row."""
        return self.slots - len(self.rows) - len(self.reading)

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
            self._encode(slots, prompts)
        shared = self._read_shared_start([row.begin for row in new], slots)
        ids, real = padded([row.begin[shared:] for row in new])
        self._forward(ids, slots, torch.full_like(slots, shared), real.sum(dim=1), new)
        self._release()
        return [row.answer for row in new]

    @torch.inference_mode()
    def begin(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Answer:
        """Takes a prompt into a free slot, for `read` to read; with what an earlier row has of its beginning, where rows
        are kept. Errors as in `admit`.
        """
        if not self.free:
            raise ValueError("more rows than slots")
        row, slot = self._row(list(prompt), sampling, seed), self.slots - self.free
        source, row.length = self._known(row.begin)
        if row.length:
            cast(KeyValueCache, self.cache).spread(source, torch.tensor([slot]), row.length)
        row.answer.reused = row.length
        self.reading.append(row)
        return row.answer

    @torch.inference_mode()
    def read(self, budget: int) -> None:
        """One pass over the next `budget` tokens, padding counted, of what `begin` took in. A prompt that is read to its
        end gets its first token, and goes on with `step`.
        """
        group = self._next_to_read(budget)
        slots = torch.arange(len(self.rows), len(self.rows) + len(group))
        if is_encoder_decoder(self.model):
            self._encode(slots, [row.answer.prompt for row in group])
        ids, real = padded([row.begin[row.length : row.length + budget] for row in group])
        starts, lengths = torch.tensor([row.length for row in group]), real.sum(dim=1)
        for row, length in zip(group, lengths.tolist(), strict=True):
            row.length += length
        whole = group if group[0].unread == 0 else []  # a prompt longer than the budget is read alone
        self._forward(ids, slots, starts, lengths, whole)
        self.rows += whole
        del self.reading[: len(whole)]
        self._release()

    def is_being_read(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt that is being read begins as this one does, so that waiting for it saves work."""
        begin = first_tokens(self.model, prompt)
        shared = max((common(row.begin, begin) for row in self.reading), default=0)
        return self.prefixes.slots > 0 and shared >= _WORTH_WAITING and shared > self._known(begin)[1] + 1

    @torch.inference_mode()
    def drop(self, answer: Answer) -> None:
        """Frees the slot of an answer that nobody waits for any more; nothing where it has left already."""
        for index, row in enumerate(self.rows):
            if row.answer is answer:
                self._leave(index)
                return
        for index, row in enumerate(self.reading):
            if row.answer is answer:
                del self.reading[index]
                self._close_gap(index)
                return

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row; finished rows leave."""
        lengths = torch.tensor([row.length for row in self.rows])
        ids = torch.tensor([[row.answer.tokens[-1]] for row in self.rows])
        for row in self.rows:
            row.length += 1
        self._forward(ids, torch.arange(len(self.rows)), lengths, torch.ones_like(lengths), self.rows)
        self._release()

    def _encode(self, slots: Tensor, sources: Sequence[Sequence[int]]) -> None:
        with resting(self.model):
            ids, documents = padded(sources)
            self.cache.remember(slots, self.model.backbone.encode(ids, documents), documents)

    def _next_to_read(self, budget: int) -> list[Row]:
        """The first rows that, padded to the longest, stay within the budget and their slots; at least one."""
        group: list[Row] = []
        widest = furthest = 0
        for row in self.reading:
            widest, furthest = max(widest, min(row.unread, budget)), max(furthest, row.length)
            if group and ((len(group) + 1) * widest > budget or furthest + widest > self.capacity):
                break
            group.append(row)
        return group

    def _known(self, begin: list[int]) -> tuple[int, int]:
        """The slot that holds most of this beginning, and how many of its tokens. The last one is always read anew: the
        answer's first token comes of it.
        """
        if not self.prefixes.slots:
            return 0, 0
        slot, length = self.prefixes.find(begin)
        for index, row in enumerate([*self.rows, *self.reading]):
            if (shared := common(row.cached, begin)) > length:
                slot, length = index, shared
        return slot, min(length, len(begin) - 1)

    def _read_shared_start(self, begins: Sequence[list[int]], slots: Tensor) -> int:
        """Computes the keys and values of the beginning that rows have in common, once, and returns its length."""
        with resting(self.model):
            length = common_length(begins) if can_share(self.model.backbone) else 0
            if length:
                self.cache.begin(slots[:1], torch.zeros(1, dtype=torch.long), torch.full((1,), length))
                self.model.backbone(torch.tensor([begins[0][:length]]), cache=self.cache)
                cast(KeyValueCache, self.cache).spread(int(slots[0]), slots[1:], length)
        return length

    def _row(self, prompt: list[int], sampling: Sampling, seed: int) -> Row:
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
        return Row(Answer(prompt), sampling, uniforms, begin, len(begin), transcript)

    def _forward(self, ids: Tensor, slots: Tensor, starts: Tensor, lengths: Tensor, rows: list[Row]) -> None:
        with resting(self.model):
            logits = next_logits(self.model, self.cache, ids, slots, starts, lengths)
        if not rows:
            return
        chosen = choose(
            logits,
            [row.sampling for row in rows],
            torch.stack([row.uniforms[len(row.answer.tokens)] for row in rows]),
            [row.begin for row in rows],
            [row.answer.tokens for row in rows],
        )
        for row, scores in zip(rows, logits, strict=True):
            if row.sampling.alternatives:
                row.answer.alternatives.append(likeliest(scores, row.sampling))
        for row, (token, log_probability) in zip(rows, chosen, strict=True):
            row.take(token, log_probability)

    def _release(self) -> None:
        """Finished rows leave."""
        index = 0
        while index < len(self.rows):
            if self.rows[index].answer.ending is None:
                index += 1
            else:
                self._leave(index)

    def _leave(self, index: int) -> None:
        """A row leaves, perhaps to a slot that is kept; the last row moves into its slot, so that active slots stay in
        front, and prompts that are being read follow."""
        if (kept := self.prefixes.keep(self.rows[index].cached)) is not None:
            self.cache.move(index, kept)
        last = self.rows.pop()
        if index < len(self.rows):
            self.cache.move(len(self.rows), index)
            self.rows[index] = last
        self._close_gap(0)

    def _close_gap(self, place: int) -> None:
        """The prompts that are being read, from this one on, move one slot to the front."""
        first = len(self.rows)
        for slot in range(first + place, first + len(self.reading)):
            self.cache.move(slot + 1, slot)


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
