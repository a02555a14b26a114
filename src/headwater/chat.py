"""Talking to a model in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.generate import Sampling, stream
from headwater.models.layout import load_model
from headwater.models.model import Model


def chat(
    model_folder: Path,
    prompt: str | None = None,
    greedy: bool = False,
    max_new_tokens: int = 128,
    temperature: float = 0.8,
    seed: int = 0,
) -> None:
    """Answers `prompt` once, or holds a conversation until an empty line or end of input. The answer streams."""
    if not temperature > 0:  # not a number
        raise UserError(f"--temperature {temperature} is no number above 0: give one such as 0.8.")
    model, _ = load_model(model_folder)
    if model.kind != "language-model":
        raise UserError(f"{model_folder} is a {model.kind} model, which gives scores: name a stage whose model writes.")
    tokenizer = Tokenizer.load(model_folder)
    sampling = Sampling(
        max_new_tokens, 0.0 if greedy else temperature, stop_tokens=(tokenizer.end_of_turn, tokenizer.end_of_text)
    )
    if prompt is not None:
        say_answer(model, tokenizer, [{"role": "user", "content": prompt}], sampling, seed)
        return
    conversation: list[dict[str, str]] = []
    while (text := _ask()) is not None:
        turn = {"role": "user", "content": text}
        try:
            answer = say_answer(model, tokenizer, [*conversation, turn], sampling, seed)
        except UserError as error:  # too long a line: the dialogue goes on without it
            print(error, file=sys.stderr, flush=True)
            continue
        conversation += [turn, {"role": "assistant", "content": answer}]
        seed += 1


def say_answer(
    model: Model, tokenizer: Tokenizer, conversation: list[dict[str, str]], sampling: Sampling, seed: int
) -> str:
    """Prints the model's answer as it comes and returns it; the oldest turns are left out where the context is full."""
    while True:
        ids = tokenizer.chat(conversation, continuation="")
        if len(ids) + 8 <= model.config.context or len(conversation) == 1:
            break
        conversation = conversation[2:]
    tokens: list[int] = []
    shown = ""
    for token in stream(model, ids, sampling, seed):
        tokens.append(token)
        text = tokenizer.decode(tokens)
        if not text.endswith("\ufffd"):  # only whole characters
            sys.stdout.write(text[len(shown) :])
            sys.stdout.flush()
            shown = text
    sys.stdout.write("\n")
    return shown


def _ask() -> str | None:
    try:
        text = input("you> ").strip()
    except EOFError:
        return None
    return text or None
