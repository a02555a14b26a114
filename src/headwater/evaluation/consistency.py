"""Whether a verdict on answers survives changes that leave the meaning alone.

Answers, or what was asked, are changed, each in one way, and judged again: the order of two answers to one instruction should stay, and
scores should move by little of what sets answers apart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from headwater.corpus.words import BASIC_HAN
from headwater.evaluation.intervals import Array
from headwater.evaluation.pairs import pair_accuracy

Request = TypeVar("Request")
Read = TypeVar("Read", contravariant=True)
"""An instruction, or a whole conversation that ends with one."""

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {
    letter: "".join(
        other
        for row, places in (
            (number - 1, (place, place + 1)),
            (number, (place - 1, place + 1)),
            (number + 1, (place - 1, place)),
        )
        if 0 <= row < len(_ROWS)
        for other in (_ROWS[row][at] for at in places if 0 <= at < len(_ROWS[row]))
    )
    for number, letters in enumerate(_ROWS)
    for place, letter in enumerate(letters)
}
"""{letter: the keys that touch its own on a QWERTY keyboard}."""

CONTRACTIONS = {
    **{"do not": "don't", "does not": "doesn't", "did not": "didn't", "is not": "isn't", "are not": "aren't"},
    **{"was not": "wasn't", "were not": "weren't", "have not": "haven't", "has not": "hasn't", "had not": "hadn't"},
    **{"cannot": "can't", "could not": "couldn't", "would not": "wouldn't", "should not": "shouldn't"},
    **{"will not": "won't", "it is": "it's", "that is": "that's", "there is": "there's", "i am": "i'm"},
    **{"you are": "you're", "we are": "we're", "they are": "they're", "i have": "i've", "i will": "i'll"},
}
"""Long forms and their short ones; each text's are exchanged for the other."""

_OTHER_FORM = CONTRACTIONS | {short: long for long, short in CONTRACTIONS.items()}
_FORMS = re.compile(rf"\b(?:{'|'.join(re.escape(form) for form in _OTHER_FORM)})\b", re.IGNORECASE)
_WORD = re.compile(r"\b[a-z]{4,}\b", re.IGNORECASE | re.ASCII)
_MARKS = str.maketrans("，。！？；：（）", ",.!?;:()")
_CLOSING = re.compile(r"[\s.!?。！？]+$")

_HAN = re.compile(f"[{BASIC_HAN}]")

CHANGES = ("typos", "lower case", "upper case", "punctuation", "contractions")
"""Of answers."""
REWORDED = "request in other words"
"""Of what was asked."""


@dataclass(frozen=True)
class Consistency:
    """How one change moved the verdicts on the answers that it changed at all.

    order      share of pairs whose order stays (a new tie is ½), with its 95% interval; the bootstrap draws answers
    shift      mean |Δ score| over the deviation of all unchanged scores
    changed    answers that the change concerned; where fewer than two are, the numbers are NaN
    """

    order: float
    low: float
    high: float
    shift: float
    changed: int


class Verdict(Protocol[Read]):
    """As `judges.Judge`, of whatever requests it reads."""

    def score(self, requests: Sequence[Read], answers: Sequence[str], /) -> Array: ...


def consistency(
    judge: Verdict[Request],
    requests: Sequence[Request],
    answers: Sequence[str],
    *,
    reword: Callable[[Request], Request],
    typos: float = 0.1,
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, Consistency]:
    """{change: what it did to the judge's scores} of answers, each to the request of its place; answers to one request are
    compared.

    reword: says a request as a person might say it otherwise, such as `reworded` an instruction.
    typos: share of the words of four letters or more that get a wrong key.
    """
    before = judge.score(requests, answers)
    deviation = float(before.std())
    found = {}
    others = [reword(request) for request in requests]
    pairs = {
        name: list(zip(requests, texts, strict=True)) for name, texts in changed_texts(answers, typos, seed).items()
    }
    pairs[REWORDED] = list(zip(others, answers, strict=True))
    for name, changed in pairs.items():
        places = [place for place, pair in enumerate(changed) if pair != (requests[place], answers[place])]
        asked, old = [str(requests[place]) for place in places], before[places]
        if len(places) < 2 or not deviation > 0:
            found[name] = Consistency(np.nan, np.nan, np.nan, np.nan, len(places))
            continue
        new = judge.score([changed[place][0] for place in places], [changed[place][1] for place in places])
        kept = pair_accuracy(new, old, sources=asked, resamples=resamples, seed=seed)
        shift = float(np.abs(new - old).mean()) / deviation
        found[name] = Consistency(kept.accuracy, kept.low, kept.high, shift, len(places))
    return found


def changed_texts(texts: Sequence[str], typos: float, seed: int) -> Mapping[str, list[str]]:
    """{change: all texts, changed so}; a text's typing mistakes depend on the seed and the text alone."""
    ways: tuple[Callable[[str], str], ...] = (
        lambda text: with_typos(text, typos, random.Random(f"{seed}\n{text}")),
        str.lower,
        str.upper,
        repunctuated,
        other_forms,
    )
    return {name: [way(text) for text in texts] for name, way in zip(CHANGES, ways, strict=True)}


def with_typos(text: str, share: float, generator: random.Random) -> str:
    """In this share of the words of four letters or more, one letter becomes one beside it on the keyboard."""

    def mistyped(match: re.Match[str]) -> str:
        word = match[0]
        if generator.random() >= share:
            return word
        place = generator.randrange(len(word))
        wrong = generator.choice(NEIGHBOURS[word[place].lower()])
        return word[:place] + (wrong.upper() if word[place].isupper() else wrong) + word[place + 1 :]

    return _WORD.sub(mistyped, text)


def repunctuated(text: str) -> str:
    """Full-width marks become those of a keyboard; a full stop at the end goes, or comes where no mark stood."""
    plain = text.translate(_MARKS)
    return stripped if (stripped := _CLOSING.sub("", plain)) != plain else f"{plain}."


def other_forms(text: str) -> str:
    """ "do not" becomes "don't", and "don't" "do not"; a capital at the beginning stays."""

    def other(match: re.Match[str]) -> str:
        changed = _OTHER_FORM[match[0].lower()]
        return changed[0].upper() + changed[1:] if match[0][0].isupper() else changed

    return _FORMS.sub(other, text)


def reworded(instruction: str) -> str:
    """A request in other words: "Write a line." becomes "Could you write a line?", and a question is asked for an answer to it."""
    text = instruction.strip()
    question, chinese = text.endswith(("?", "？")), bool(_HAN.search(text))
    if question:
        return f"告诉我：{text}" if chinese else f"Tell me: {text}"
    plain = _CLOSING.sub("", text)
    return f"能不能{plain.removeprefix('请')}？" if chinese else f"Could you {plain[:1].lower()}{plain[1:]}?"
