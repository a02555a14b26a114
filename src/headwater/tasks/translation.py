"""Translation: parallel text out of the user's files, and the measures BLEU and chrF."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.corpus.normalise import normalise
from headwater.errors import UserError


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation."""

    source: str
    target: str


@dataclass(frozen=True)
class Scores:
    """Corpus BLEU and chrF (0 to 100, higher is better), and sacrebleu's signature, which says how BLEU was counted."""

    bleu: float
    chrf: float
    signature: str


def read_aligned(source: Path, target: Path) -> list[Pair]:
    """Pairs of two files whose lines belong together; plain text or .gz, UTF-8.

    Pairs with an empty side are left out. Raises UserError where the files have different numbers of lines.
    """
    left, right = _lines(source), _lines(target)
    if len(left) != len(right):
        raise UserError(
            f"{source} has {len(left):,} lines and {target} {len(right):,}: line n of one must be the translation of "
            "line n of the other."
        )
    return _pairs(zip(left, right, strict=True), f"{source} and {target}")


def read_table(path: Path) -> list[Pair]:
    """Pairs of a file with a sentence, a tab and its translation per line; plain text or .gz, UTF-8. More columns are
    not read.
    """
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) < 2 and line.strip():
            raise UserError(f"{path}, line {number}, has no tab: write a sentence, a tab and its translation.")
        if len(fields) >= 2:
            rows.append((fields[0], fields[1]))
    return _pairs(rows, str(path))


def score(answers: Sequence[str], references: Sequence[str], language: str) -> Scores:
    """How near translations are to the references, one each. `language` of the target: "zh", "ja" and "ko" are cut
    into words or characters in their own ways, all others as WMT does (13a).
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers, but {len(references)} references")
    tokenizer = {"zh": "zh", "ja": "char", "ko": "char"}.get(language, "13a")
    bleu = BLEU(tokenize=tokenizer)
    measured = bleu.corpus_score(list(answers), [list(references)])
    chrf = CHRF().corpus_score(list(answers), [list(references)])
    return Scores(measured.score, chrf.score, str(bleu.get_signature()))


def _lines(path: Path) -> list[str]:
    """The lines of a file. Only "\\n" ends one: sentences may hold U+0085 or U+2028."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: give the path of a text file, plain or .gz.") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}, is not UTF-8: convert the file.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} cannot be unpacked ({error}): copy it anew.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a text file, plain or .gz.") from None
    lines = text.split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def _pairs(rows: Iterable[tuple[str, str]], place: str) -> list[Pair]:
    pairs = [Pair(normalise(left), normalise(right)) for left, right in rows]
    kept = [pair for pair in pairs if pair.source and pair.target]
    if not kept:
        raise UserError(f"There are no sentence pairs in {place}: each line needs a sentence and its translation.")
    return kept
