"""SentencePiece's BPE (Kudo and Richardson 2018) as GGUF files of the kind "llama" keep it: pieces with scores."""

from __future__ import annotations

from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers


def sentencepiece_bpe(
    tokens: Sequence[str], scores: Sequence[float], normal: Sequence[bool], unknown: str | None, space_before: bool
) -> tokenizers.Tokenizer:
    """The tokenizer of pieces in which `▁` stands for a space and `<0x0A>` for a byte that no piece has.

    normal: which pieces may come out of joining others; control tokens and bytes may not. space_before: whether a text
    is read as if a space stood before it.
    """
    vocabulary = {token: number for number, token in enumerate(tokens)}
    model = models.BPE(
        vocab=vocabulary,
        merges=merges_of(vocabulary, scores, normal),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=True,
    )
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if space_before else "never", split=False)
    first = [decoders.Strip(content=" ", left=1)] if space_before else []
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *first])
    return inner


def merges_of(vocabulary: dict[str, int], scores: Sequence[float], normal: Sequence[bool]) -> list[tuple[str, str]]:
    """The pairs that are joined, the first ones first: the file has only the joined pieces, with the best score first."""
    found: list[tuple[float, int, int, str, str]] = []
    for piece, number in vocabulary.items():
        if not normal[number]:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            first, second = vocabulary.get(left), vocabulary.get(right)
            if first is not None and second is not None and normal[first] and normal[second]:
                found.append((-scores[number], -len(left), -len(right), left, right))
    return [(left, right) for *_, left, right in sorted(found)]
