"""Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), trained by `tokenizers`, with chat roles reserved.

Every text is a sequence of bytes, and every byte is a token, so nothing is unknown and everything round-trips.
Control tokens come only from the template, never from the content: a user who types `<|end|>` gets seven ordinary
tokens or so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from headwater.errors import UserError
from headwater.storage import write_atomically

PAD = "<|pad|>"
END_OF_TEXT = "<|endoftext|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "<|end|>"
CONTROL_TOKENS = (PAD, END_OF_TEXT, USER, ASSISTANT, END)
"""In the order of their ids, from 0."""

# As GPT-2's pattern, with numbers in groups of at most three digits: contractions, words and numbers with the space
# before them, runs of other signs, white space (its last space goes to the word that follows).
_WORD_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}\p{M}]+| ?\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('roles are user and assistant, not ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""What `Tokenizer.chat` does, for programs that read `tokenizer_config.json`."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learns merges from `texts` until there are exactly `vocabulary` tokens, the control tokens and 256 bytes among
    them.

    The same texts in the same order give the same tokenizer. Raises UserError, naming the size that can be reached,
    where the texts hold too few different pieces.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    reached = tokenizer.get_vocab_size(with_added_tokens=True)
    if reached != vocabulary:
        raise UserError(
            f"tokenizer.vocabulary is {vocabulary:,}, but the corpus allows only {reached:,} different tokens: "
            f"set it to {reached} or less, or add texts."
        )
    return Tokenizer(tokenizer)


class Tokenizer:
    """Text ↔ token ids. Load one with `Tokenizer.load(folder)`; make one with `train_tokenizer`."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        # Content never turns into control tokens, whatever it spells.
        self._inner.encode_special_tokens = True
        vocabulary = inner.get_vocab(with_added_tokens=True)
        self.pad, self.end_of_text, self.user, self.assistant, self.end_of_turn = (
            vocabulary[t] for t in CONTROL_TOKENS
        )

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Reads `tokenizer.json` of a folder; UserError where it is missing, damaged or of another make."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise UserError(
                f"There is no tokenizer at {path}: run the tokenizer stage, or name a folder that holds a model."
            )
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except KeyError as error:
            raise UserError(f"The tokenizer {path} has no token {error}: it was not made by headwater.") from None
        except Exception:  # tokenizers raises bare Exception for every damage
            raise UserError(
                f"The tokenizer {path} is damaged: copy it anew or run the tokenizer stage again."
            ) from None

    def save(self, folder: Path, context: int) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json` in the Hugging Face layout.

        `context`: the longest sequence, in tokens, that the model is made for.
        """
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": END,
            "pad_token": PAD,
            "unk_token": None,
            "additional_special_tokens": [END_OF_TEXT, USER, ASSISTANT],
            "model_max_length": context,
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        }
        write_atomically(folder / "tokenizer.json", self._inner.to_str(pretty=True) + "\n")
        write_atomically(folder / "tokenizer_config.json", json.dumps(config, indent=1, ensure_ascii=False) + "\n")

    @property
    def vocabulary(self) -> int:
        """Number of token ids, control tokens included."""
        return self._inner.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Token ids of a content: `decode` gives the same text back; no control token is among them."""
        return self._inner.encode(text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        return [encoding.ids for encoding in self._inner.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of token ids; bytes that are no UTF-8 become �. `skip_special` leaves control tokens out."""
        return self._inner.decode(list(ids), skip_special_tokens=skip_special)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Token ids of any bytes, UTF-8 or not: `decode_bytes` gives the same bytes back."""
        ids: list[int] = []
        for text, stray in _valid_pieces(data):
            ids += self.encode(text)
            ids += [self._byte_ids[byte] for byte in stray]
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes behind token ids; control tokens have none."""
        return b"".join(self.bytes_of(token) for token in ids)

    def bytes_of(self, token: int) -> bytes:
        """The bytes of one token; empty for a control token."""
        return self._token_bytes[token]

    def chat(self, messages: Sequence[Mapping[str, str]], continuation: str | None = None) -> list[int]:
        """Token ids of a dialogue: `<|user|>…<|end|><|assistant|>…<|end|>`.

        messages: {"role": "user" | "assistant", "content": text} each. With `continuation` an assistant's turn is
        opened that begins with this text (it may be empty) and is not closed: the model goes on from there.
        """
        roles = {"user": self.user, "assistant": self.assistant}
        ids: list[int] = []
        for message in messages:
            if message["role"] not in roles:
                raise UserError(f"A message has the role `{message['role']}`: the roles are user and assistant.")
            ids += [roles[message["role"]], *self.encode(message["content"]), self.end_of_turn]
        if continuation is not None:
            ids += [self.assistant, *self.encode(continuation)]
        return ids

    @cached_property
    def _token_bytes(self) -> list[bytes]:
        """[vocabulary] bytes of every token."""
        byte_of = {character: byte for byte, character in enumerate(_byte_characters())}
        tokens: list[bytes] = [b""] * self.vocabulary
        for token, number in self._inner.get_vocab(with_added_tokens=True).items():
            if token not in CONTROL_TOKENS:
                tokens[number] = bytes(byte_of[character] for character in token)
        return tokens

    @cached_property
    def _byte_ids(self) -> list[int]:
        """[256] the token of each single byte."""
        vocabulary = self._inner.get_vocab(with_added_tokens=True)
        return [vocabulary[character] for character in _byte_characters()]

    def __getstate__(self) -> dict[str, Any]:
        return {"json": self._inner.to_str()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(tokenizers.Tokenizer.from_str(state["json"]))  # type: ignore[misc]


def _byte_characters() -> list[str]:
    """[256] the printable character that stands for each byte in a byte-level vocabulary (Radford et al. 2019).

    Printable Latin-1 characters stand for themselves; the other bytes take the characters from U+0100 on, in order.
    """
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in itself else chr(next(others)) for byte in range(256)]


def _valid_pieces(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Cuts bytes into (valid text, stray bytes after it)."""
    while data:
        try:
            yield data.decode("utf-8"), b""
            return
        except UnicodeDecodeError as error:
            yield data[: error.start].decode("utf-8"), data[error.start : error.end]
            data = data[error.end :]
