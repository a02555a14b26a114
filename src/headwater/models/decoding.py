"""What every way of decoding stands on: how a prompt becomes the decoder's first tokens, and the logits of the next one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.cache import Cache
from headwater.models.model import Model


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
