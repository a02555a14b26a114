"""Which tokens of a text belong to one word: what must be masked together, so that no piece gives the others away.

The tokens may hold parts of characters (byte-level BPE) or, in Chinese, parts of two words. So words are found in the
text, and tokens that share a word, or a character, make one group.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from headwater.corpus.words import UNSPACED
from headwater.progress import say

Segment = Callable[[str], Sequence[str]]
"""A run of Chinese characters → its words; joined they are the run."""


def word_groups(ids: Sequence[int], bytes_of: Callable[[int], bytes], segment: Segment) -> list[range]:
    """The places of `ids` as groups of whole words, in order; control tokens, which have no bytes, are in no group.

    bytes_of: the bytes of a token. A control token ends a word, whatever stands on its two sides.
    """
    groups: list[range] = []
    pieces = [bytes_of(token) for token in ids]
    start = 0
    while start < len(pieces):
        end = start
        while end < len(pieces) and pieces[end]:
            end += 1
        groups += _groups(pieces[start:end], start, segment)
        start = end + 1
    return groups


def _groups(pieces: Sequence[bytes], first: int, segment: Segment) -> Iterator[range]:
    """Groups of tokens without a control token among them, the first of which has the place `first`."""
    ends = set(word_ends(b"".join(pieces), segment))
    begin, offset = 0, 0
    for place, piece in enumerate(pieces):
        offset += len(piece)
        if offset in ends:
            yield range(first + begin, first + place + 1)
            begin = place + 1


def word_ends(data: bytes, segment: Segment) -> Iterator[int]:
    """Offsets, in bytes, at which the words of a UTF-8 text end; signs and white space are words of one character.

    A space belongs to the word that it leads. Bytes that are no UTF-8, as at the ends of a text that was cut, are words.
    """
    text = data.decode("utf-8", "surrogateescape")
    offset = 0
    for found in _word_pattern().finditer(text):
        run = found.group()
        for word in segment(run) if found.lastgroup == "unspaced" else [run]:
            offset += len(word.encode("utf-8", "surrogateescape"))
            yield offset


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    marks = [chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    letter = f"[^\\W_{UNSPACED}][{''.join(marks)}]*"
    return re.compile(f"(?P<unspaced>[{UNSPACED}]+)| ?(?:{letter})+| ?[\udc80-\udcff]+| ?[^{UNSPACED}]|.", re.DOTALL)


def single_characters(run: str) -> list[str]:
    """The segmentation in which each character is a word."""
    return list(run)


@functools.cache
def chinese_words() -> Segment:
    """jieba's segmentation where jieba is installed (`pip install headwater[chinese]`), else single characters."""
    try:
        import tempfile
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its source has old escapes
            import jieba
    except ImportError:
        say("jieba is not installed, so each Chinese character counts as a word: pip install 'headwater[chinese]'.")
        return single_characters
    jieba.setLogLevel("ERROR")
    tokenizer = jieba.Tokenizer()
    # A dictionary cached where all may write is not read: it could be anyone's.
    folder = tempfile.TemporaryDirectory()
    tokenizer.tmp_dir = folder.name
    tokenizer.initialize()
    folder.cleanup()
    return functools.lru_cache(maxsize=65_536)(lambda run: tokenizer.lcut(run, HMM=False))
