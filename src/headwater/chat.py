"""Talking to a model in the terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from headwater import exchange
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.decoding import is_encoder_decoder
from headwater.models.generate import Sampling, stream_text
from headwater.models.model import Model

SYSTEM = "You are a helpful assistant."
"""What a model is told before a dialogue unless its user says otherwise."""
_ROOM = 8
"""Tokens that an answer should have at least; older turns give way."""


def chat(
    model_folder: Path, sampling: Sampling, prompt: str | None = None, seed: int = 0, system: str = SYSTEM
) -> None:
    """Answers `prompt` once, or holds a conversation until an empty line or end of input. The answer streams.

    system: told to a model of others' before the dialogue, where its template takes it; empty: what the template says
    by itself. A model without a chat template continues the text that it is given; it does not see what was said before.
    sampling: its stop tokens become those of the model.
    """
    model, tokenizer = load_writer(model_folder)
    sampling = replace(sampling, stop_tokens=stop_tokens(tokenizer))
    before = told_before(tokenizer, system)
    if prompt is not None:
        say_answer(model, tokenizer, [*before, {"role": "user", "content": prompt}], sampling, seed)
        return
    conversation: list[dict[str, str]] = before
    while (text := _ask()) is not None:
        turn = {"role": "user", "content": text}
        try:
            answer = say_answer(model, tokenizer, [*conversation, turn], sampling, seed)
        except UserError as error:  # too long a line: the dialogue goes on without it
            print(error, file=sys.stderr, flush=True)
            continue
        conversation += [turn, {"role": "assistant", "content": answer}]
        seed += 1


def load_writer(model_folder: Path) -> tuple[Model, Tokenizer]:
    """A model that writes text, and its tokenizer. Raises UserError where it is none, or has none."""
    model, tokenizer = exchange.load(model_folder)
    if model.kind != "language-model":
        raise UserError(
            f"{model_folder} is a {model.kind} model, which writes no text: name a stage or a folder whose model does."
        )
    if tokenizer is None:
        raise UserError(f"{model_folder} has no tokenizer.json, without which a model reads no text: put it there.")
    return model, tokenizer


def stop_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What ends an answer; the padding too: who pads has nothing more to say."""
    padding = () if tokenizer.padding is None else (tokenizer.padding,)
    return (*tokenizer.stop_tokens, *padding)


def say_answer(
    model: Model, tokenizer: Tokenizer, conversation: list[dict[str, str]], sampling: Sampling, seed: int
) -> str:
    """Prints the model's answer as it comes and returns it; the oldest turns are left out where the context is full."""
    ids = prompt_ids(model, tokenizer, conversation)
    shown = ""
    for piece in stream_text(model, ids, sampling, seed, tokenizer.decode):
        sys.stdout.write(piece)
        sys.stdout.flush()
        shown += piece
    sys.stdout.write("\n")
    return shown


def prompt_ids(model: Model, tokenizer: Tokenizer, conversation: list[dict[str, str]]) -> list[int]:
    """What the model is given: the dialogue with an assistant's turn opened, or the last text alone where the model
    knows no dialogues. An encoder-decoder's source is framed as its family does it.
    """
    last = conversation[-1]["content"]
    if is_encoder_decoder(model):
        return tokenizer.encode(last, special=True)
    if not tokenizer.has_chat_template:
        return opening_ids(tokenizer, last)
    most = model.config.context * tokenizer.longest_token
    while True:
        first = 1 if conversation[0]["role"] == "system" else 0
        is_short = len(conversation) <= first + 1
        # So much text cannot be so few tokens: it is not cut into tokens to find that out.
        if is_short or sum(len(turn["content"]) for turn in conversation) <= most:
            ids = tokenizer.chat(conversation, continuation="")
            if len(ids) + _ROOM <= model.config.context or is_short:
                return ids
        conversation = [*conversation[:first], *(conversation[first + 2 :] or conversation[-1:])]


def told_before(tokenizer: Tokenizer, system: str) -> list[dict[str, str]]:
    """The message that goes before a dialogue: none where the model's template takes none."""
    told = [{"role": "system", "content": system}]
    if not system or tokenizer.is_own or not tokenizer.has_chat_template:
        return []
    try:
        tokenizer.chat([*told, {"role": "user", "content": "a"}])
    except UserError:
        return []
    return told


def opening_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """A text to go on from. What frames it at its end (`</s>`) would end it."""
    ids = tokenizer.encode(text, special=True)
    while ids and ids[-1] in tokenizer.stop_tokens:
        ids.pop()
    return ids or [tokenizer.end_of_text]


def _ask() -> str | None:
    try:
        text = input("you> ").strip()
    except EOFError:
        return None
    return text or None
