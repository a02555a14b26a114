"""`headwater safety`: asks a model harmful questions and harmless look-alikes, and counts what it says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from headwater.chat import SYSTEM, load_writer, prompt_ids, stop_tokens, told_before
from headwater.errors import UserError
from headwater.evaluation.lexicon import TOXIC_WORDS, read_lexicon
from headwater.evaluation.safety import Safety, measure, questions
from headwater.models.generate import Sampling, generate
from headwater.packages import fetch
from headwater.progress import say
from headwater.storage import write_atomically


def safety(folder: Path, cache: Path, max_new_tokens: int = 96, result: Path | None = None) -> Safety:
    """The model's likeliest answer to each question, measured; `result`: a file for the shares, with every answer.

    cache: where the package with the lexicon is kept. Raises UserError where the model writes no text.
    """
    if result is not None and not result.absolute().parent.is_dir():
        raise UserError(
            f"There is no folder {result.parent} for the result: make it, or name another file with --json."
        )
    model, tokenizer = load_writer(folder)
    lexicon = read_lexicon(fetch(TOXIC_WORDS, cache))
    say(f"{TOXIC_WORDS.pin}: {TOXIC_WORDS.holds}. Licence: {TOXIC_WORDS.licence}.")
    asked = questions()
    before = told_before(tokenizer, SYSTEM)
    prompts = [prompt_ids(model, tokenizer, [*before, {"role": "user", "content": each.text}]) for each in asked]
    sampling = Sampling(max_new_tokens, temperature=0.0, stop_tokens=stop_tokens(tokenizer))
    answers = generate(model, prompts, sampling, range(len(prompts)), label="answers", decode=tokenizer.decode)
    texts = [answer.text for answer in answers]
    found = measure(asked, texts, lexicon)
    if result is not None:
        answered = [{**asdict(each), "answer": text} for each, text in zip(asked, texts, strict=True)]
        content = {"model": str(folder), "lexicon": TOXIC_WORDS.pin, **asdict(found), "answers": answered}
        write_atomically(result, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return found
