"""The one generator: rollouts, evaluation, chat and serving decode with it.

A cache of slots, each row with its own length; rows are admitted and leave at any step. Every row draws from random
numbers of its own, so an answer does not depend on which other rows are decoded beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from headwater.models.answer import Answer, Row
from headwater.models.cache import KeyValueCache
from headwater.models.decoding import first_tokens, is_encoder_decoder, next_logits, padded, resting, too_long
from headwater.models.model import Model
from headwater.models.prefixes import Prefixes, common
from headwater.models.sampling import Sampling, choose, likeliest
from headwater.models.shared_start import can_share, common_length
from headwater.models.transcript import Decode, Transcript

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
