"""Vocabularies whose alphabet is the 256 bytes (Radford et al. 2019)."""

from __future__ import annotations

import tokenizers


def is_byte_level(inner: tokenizers.Tokenizer) -> bool:
    """Whether the alphabet is the 256 bytes, so that any text round-trips."""
    return isinstance(inner.decoder, tokenizers.decoders.ByteLevel)


def bytes_of_tokens(inner: tokenizers.Tokenizer, vocabulary: int) -> list[bytes]:
    """[vocabulary] the bytes of every token; control tokens have none."""
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    added = inner.get_added_tokens_decoder()
    tokens: list[bytes] = [b""] * vocabulary
    for token, number in inner.get_vocab(with_added_tokens=True).items():
        if number in added:
            tokens[number] = b"" if added[number].special else token.encode()
        else:
            # A vocabulary may hold pieces that no bytes spell; they are never the result of encoding.
            tokens[number] = bytes(byte_of[character] for character in token if character in byte_of)
    return tokens


def byte_characters() -> list[str]:
    """[256] the printable character that stands for each byte in a byte-level vocabulary (Radford et al. 2019).

    Printable Latin-1 characters stand for themselves; the other bytes take the characters from U+0100 on, in order.
    """
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in itself else chr(next(others)) for byte in range(256)]
