"""Text ↔ token ids: byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) with chat roles reserved, trained here,
and any `tokenizer.json` of the Hugging Face layout.

In our own every text is a sequence of bytes, and every byte is a token, so nothing is unknown and everything
round-trips. Control tokens come only from the template, never from the content: a user who types `<|end|>` gets seven
ordinary tokens or so.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from headwater.corpus.byte_level import bytes_of_tokens, is_byte_level
from headwater.corpus.chat_template import DialogueEncoder
from headwater.corpus.own_tokenizer import (
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    is_own,
    own_conventions,
    own_settings,
    train_inner,
)
from headwater.corpus.special_tokens import Conventions, read_conventions, read_inner, without_control_pieces
from headwater.errors import UserError
from headwater.storage import write_atomically

__all__ = ["CHAT_TEMPLATE", "CONTROL_TOKENS", "OTHER_FORMATS", "Tokenizer", "check_fits", "train_tokenizer"]

OTHER_FORMATS = ("spiece.model", "source.spm", "sentencepiece.bpe.model", "tokenizer.model", "vocab.txt", "vocab.json")
"""Files in which others keep a tokenizer that is not read here."""


def train_tokenizer(texts: Iterable[str], vocabulary: int, sentinels: int = 0) -> Tokenizer:
    """Learns merges from `texts` until there are exactly `vocabulary` tokens, the control tokens and 256 bytes among
    them. `sentinels`: how many tokens are reserved for what is masked or left out.

    The same texts in the same order give the same tokenizer. Raises UserError, naming the size that can be reached,
    where the texts hold too few different pieces.
    """
    return Tokenizer(train_inner(texts, vocabulary, sentinels))


def check_fits(tokenizer: Tokenizer, vocabulary: int, folder: Path) -> None:
    """Raises UserError where the tokenizer has ids for which the model of the folder has no embedding.

    vocabulary: rows of the model's embedding.
    """
    if tokenizer.vocabulary > vocabulary:
        raise UserError(
            f"The tokenizer in {folder} has {tokenizer.vocabulary:,} tokens, but its model knows only {vocabulary:,}: "
            "they do not belong together; copy the model's own tokenizer there."
        )


class Tokenizer:
    """Text ↔ token ids. Load one with `Tokenizer.load(folder)`; make one with `train_tokenizer`.

    `bos`, `eos`, `unk`, `mask` are None where the tokenizer has no such token; `sentinels` stand for left-out spans.
    """

    def __init__(self, inner: tokenizers.Tokenizer, conventions: Conventions | None = None) -> None:
        """`conventions`: of a tokenizer that others made; None for one of ours."""
        self._saved = inner
        self.is_own = conventions is None
        """Whether headwater trained it."""
        self._conventions = conventions or own_conventions(inner)
        self._inner = inner if self.is_own else without_control_pieces(inner)
        # Content never turns into control tokens, whatever it spells.
        self._inner.encode_special_tokens = True
        ids = self._conventions.ids
        self.padding, self.bos, self.eos = ids.get("pad"), ids.get("bos"), ids.get("eos")
        self.unk, self.mask = ids.get("unk"), ids.get("mask")
        self.sentinels = list(self._conventions.sentinels)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Reads `tokenizer.json` of a folder, and what the files beside it say of special tokens and dialogues.

        Raises UserError where it is missing or damaged.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            other = next((name for name in OTHER_FORMATS if (folder / name).is_file()), None)
            if other:
                raise UserError(f"{folder} has its tokenizer only as {other}: save it as tokenizer.json first.")
            raise UserError(
                f"There is no tokenizer at {path}: run the tokenizer stage, or name a folder that holds a model."
            )
        inner = read_inner(path)
        conventions = read_conventions(folder, inner)
        if is_own(inner) and conventions.template in (None, CHAT_TEMPLATE):
            return cls(inner)
        return cls(inner, conventions)

    def save(self, folder: Path, context: int) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json` in the Hugging Face layout.

        `context`: the longest sequence, in tokens, that the model is made for.
        """
        folder.mkdir(parents=True, exist_ok=True)
        config = self._settings() | {"model_max_length": context}
        write_atomically(folder / "tokenizer.json", self._saved.to_str(pretty=True) + "\n")
        write_atomically(folder / "tokenizer_config.json", json.dumps(config, indent=1, ensure_ascii=False) + "\n")

    def _settings(self) -> dict[str, Any]:
        """The content of `tokenizer_config.json`."""
        if not self.is_own:
            names = {f"{part}_token": self._name(number) for part, number in self._conventions.ids.items()}
            template = {"chat_template": self._conventions.template} if self._conventions.template else {}
            return {"tokenizer_class": "PreTrainedTokenizerFast"} | self._conventions.settings | names | template
        return own_settings(self._saved)

    def _name(self, number: int) -> str:
        return str(self._saved.id_to_token(number))

    @cached_property
    def vocabulary(self) -> int:
        """Number of token ids, control tokens included."""
        return max(self._saved.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def longest_token(self) -> int:
        """Characters of the longest token: no text has more than this times its tokens."""
        return max(map(len, self._saved.get_vocab(with_added_tokens=True)))

    @property
    def pad(self) -> int:
        """The padding token, which is never an end. Raises UserError where none is free for it."""
        return self._needed("pad", "token that is free for padding")

    @property
    def user(self) -> int:
        """What opens a user's turn, in a tokenizer of ours."""
        return self._needed("user", "token that opens a user's turn")

    @property
    def assistant(self) -> int:
        """What opens an assistant's turn, in a tokenizer of ours."""
        return self._needed("assistant", "token that opens an assistant's turn")

    @cached_property
    def end_of_turn(self) -> int:
        """What ends an assistant's turn: the control token that the chat template writes after it, else the end token."""
        if "end_of_turn" not in self._conventions.ids and self.has_chat_template:
            turn = {"role": "user", "content": "a"}
            with contextlib.suppress(UserError):  # a template may want dialogues of another form
                opened = len(self.chat([turn], continuation=""))
                for token in self.chat([turn, {"role": "assistant", "content": "b"}])[opened:]:
                    if token in self._controls:
                        return token
        return self._needed("end_of_turn" if self.is_own else "eos", "token that ends a turn")

    @cached_property
    def end_of_text(self) -> int:
        """What ends a text: `<|endoftext|>`; of others' tokenizers the end token, one that ends no turn where there are
        several.
        """
        if self.is_own:
            return self._conventions.ids["end_of_text"]
        others = [token for token in self._conventions.stops if token != self.end_of_turn]
        return others[0] if others else self._needed("eos", "token that ends a text")

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """What ends an answer: the end of a turn, the end of a text, and what else the folder names as an end."""
        if not self.is_own and not self._conventions.stops and not self.has_chat_template:
            return ()
        return tuple(dict.fromkeys([self.end_of_turn, self.end_of_text, *self._conventions.stops]))

    def _needed(self, part: str, what: str) -> int:
        if part not in self._conventions.ids:
            raise UserError(
                f"The tokenizer of {self._conventions.place or 'headwater'} has no {what}: use another model."
            )
        return self._conventions.ids[part]

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids of a content; no control token is among them, and `decode` gives the same text back where the
        tokenizer works on bytes.

        `special`: framed as the model's family does it (`[CLS] … [SEP]`, `… </s>`).
        """
        return self._inner.encode(text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=special).ids

    def encode_batch(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        return [encoding.ids for encoding in self._inner.encode_batch_fast(list(texts), add_special_tokens=special)]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of token ids; bytes that are no UTF-8 become �. `skip_special` leaves control tokens out."""
        return self._inner.decode(list(ids), skip_special_tokens=skip_special)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes behind token ids; control tokens have none."""
        return b"".join(self.bytes_of(token) for token in ids)

    def bytes_of(self, token: int) -> bytes:
        """The bytes of one token; empty for a control token."""
        return self._token_bytes[token]

    @property
    def chat_template(self) -> str | None:
        """How a dialogue is written, in the language Jinja; None where the folder does not say."""
        return self._conventions.template

    @property
    def has_chat_template(self) -> bool:
        """Whether it is said how a dialogue is written."""
        return self._conventions.template is not None

    def chat(self, messages: Sequence[Mapping[str, str]], continuation: str | None = None) -> list[int]:
        """Token ids of a dialogue: `<|user|>…<|end|><|assistant|>…<|end|>`, or as the folder's chat template says.

        messages: {"role": "user" | "assistant", "content": text} each. With `continuation` an assistant's turn is
        opened that begins with this text (it may be empty) and is not closed: the model goes on from there.
        """
        if not self.is_own:
            return self._dialogues.encode(messages, continuation)
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
    def _dialogues(self) -> DialogueEncoder:
        return DialogueEncoder(self._saved, self._conventions)

    @cached_property
    def _controls(self) -> frozenset[int]:
        """Ids of all control tokens."""
        added = self._saved.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    @cached_property
    def _token_bytes(self) -> list[bytes]:
        """[vocabulary] bytes of every token."""
        self._on_bytes()
        return bytes_of_tokens(self._saved, self.vocabulary)

    def _on_bytes(self) -> None:
        if not self.is_own and not is_byte_level(self._saved):
            raise UserError(f"The tokenizer of {self._conventions.place} does not work on bytes: give it texts.")

    def __getstate__(self) -> dict[str, Any]:
        return {"json": self._saved.to_str(), "conventions": None if self.is_own else self._conventions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(tokenizers.Tokenizer.from_str(state["json"]), state["conventions"])  # type: ignore[misc]
