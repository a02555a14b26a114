"""Prompts and answers of the pages in the feedback store, so that judgements can point to them."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.errors import UserError
from headwater.feedback.answers import keep_answers
from headwater.feedback.prompt_rows import NewPrompt, turns_of, write_prompts
from headwater.feedback.store.store import Store, Writer
from headwater.serving.pages.answering import Answered, Message

SOURCE = "chat"
"""The source of prompts that were asked in a chat."""

WRITTEN = "written"
"""The source of requests that people wrote for their demonstrations."""

THUMB = "thumb"
"""The axis of thumbs: 1 up, −1 down."""

CORRECTED = "corrected"
"""The flag of a judgement that brings a better text of the person's own."""


def keep(store: Store, answers: Sequence[Answered]) -> tuple[int, list[int]]:
    """The ids of the prompt and of the answers to it, written into the store where they are missing."""
    conversation = [dict(message) for message in answers[0].conversation]
    if any(list(answer.conversation) != conversation for answer in answers):
        raise UserError("These answers are to different conversations: compare answers to one.")
    with store.writing() as writer:
        prompt = _prompt(writer, conversation, SOURCE)
        rows = [
            {
                "prompt_id": prompt, "text": answer.text, "model": answer.model.digest, "sampling": answer.sampling(),
                "seed": answer.wish.seed, "origin": answer.id,
            }
            for answer in answers
        ]  # fmt: skip
        return prompt, keep_answers(writer, rows)


def keep_prompt(store: Store, conversation: list[Message], source: str) -> int:
    """The id of a prompt, written into the store where it is missing."""
    with store.writing() as writer:
        return _prompt(writer, conversation, source)


def _prompt(writer: Writer, conversation: list[Message], source: str) -> int:
    """As imports do: what begins alike is of one split, so that no evaluation knows what was learnt."""
    turns = turns_of(conversation)
    return write_prompts(writer, [NewPrompt(turns, source, "what was said", None)])[source, turns]
