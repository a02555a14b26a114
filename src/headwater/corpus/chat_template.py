"""Chat templates of strangers (Jinja): rendered in a process of their own, so that a hostile one can do nothing.

What a user wrote stays content: where it spells a control token, a mark that no text has is put between its characters
before the template sees it, and taken out after the text was cut at the control tokens.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

from headwater.corpus.special_tokens import Conventions
from headwater.errors import UserError

MARKS = tuple(chr(number) for number in range(0xFDD0, 0xFDF0))
"""Code points that Unicode assigns to no character; one that no content holds keeps control tokens apart."""
_WORKER = Path(__file__).with_name("template_worker.py")
_SECONDS = 20.0
"""Longest wait for an answer; the process itself stops after less processor time."""
_LARGEST = 64 * 1024 * 1024
"""Longest answer, in bytes."""


class ChatTemplate:
    """A folder's own chat template. `place` stands in messages; `tokens`: {"eos_token": "</s>", …} for the template."""

    def __init__(self, template: str, tokens: Mapping[str, str], place: str) -> None:
        self.template = template
        self.tokens = dict(tokens)
        self.place = place
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._end: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    def render(self, messages: Sequence[Mapping[str, str]], opened: bool) -> str:
        """The dialogue as one text; `opened`: an assistant's turn is begun after it.

        Raises UserError where the template refuses the dialogue, is damaged, or does what no template may.
        """
        request = {"messages": [dict(message) for message in messages], "open": opened}
        with self._lock:
            answer = self._ask(request)
        if "text" in answer:
            return str(answer["text"])
        raise self._refused(str(answer.get("kind")), " ".join(str(answer.get("error")).split())[:200])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            first = self._start()
            if "ready" not in first:
                return first
        return self._exchange(request)

    def _start(self) -> dict[str, Any]:
        # Only what Python needs to find its packages: no secrets of the environment.
        kept = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in kept if name in os.environ},
            start_new_session=True,  # Ctrl-C is for us
        )
        self._owner = os.getpid()
        self._end = weakref.finalize(self, _end, self._process, self._owner)  # at the end of the program too
        return self._exchange({"template": self.template, "tokens": self.tokens})

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        """One line out, one line back; a process that does not answer is ended."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(_read_line(process.stdout.fileno(), time.monotonic() + _SECONDS))
        except (OSError, ValueError, TimeoutError):
            self.close()
            return {"kind": "unsafe", "error": "it takes too long or too much memory"}
        return answer

    def _refused(self, kind: str, why: str) -> UserError:
        if kind == "refused":
            return UserError(f"The chat template of {self.place} does not take this dialogue: {why}")
        if kind == "unsafe":
            return UserError(f"The chat template of {self.place} was stopped, as it does what no template may: {why}.")
        return UserError(f"The chat template of {self.place} is damaged ({why}): copy the folder anew.")

    def close(self) -> None:
        """Ends the process; the next rendering starts another."""
        self._process = None
        self._end()


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if owner == os.getpid():  # a fork of ours has only a copy
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


class DialogueEncoder:
    """Dialogues → token ids, through a folder's own chat template; equal to `apply_chat_template` of `transformers`
    but where a content spells a control token, or the template asks for the date.
    """

    def __init__(self, inner: tokenizers.Tokenizer, conventions: Conventions) -> None:
        if conventions.template is None:
            raise UserError(f"{conventions.place} has no chat template: it continues texts, but holds no dialogue.")
        names = {f"{part}_token": str(inner.id_to_token(number)) for part, number in conventions.ids.items()}
        self._template = ChatTemplate(conventions.template, names, conventions.place)
        self._json = json.loads(inner.to_str())
        for token in self._json["added_tokens"]:
            if token["special"]:
                token["normalized"] = False  # cut out before the marks are taken away
        self._controls = [token["content"] for token in self._json["added_tokens"] if token["special"]]
        self._inner: dict[str, tokenizers.Tokenizer] = {}

    def encode(self, messages: Sequence[Mapping[str, str]], continuation: str | None) -> list[int]:
        """As `Tokenizer.chat`."""
        for message in messages:
            if not message["role"].isidentifier():
                raise UserError(f"A message has the role {message['role']!r}: a role is a word, such as user.")
        mark = unused_mark([*(text for message in messages for text in message.values()), continuation or ""])
        apart = [
            {key: text if key == "role" else keep_apart(text, self._controls, mark) for key, text in message.items()}
            for message in messages
        ]
        text = self._template.render(apart, continuation is not None)
        text += keep_apart(continuation or "", self._controls, mark)
        text = text.encode("utf-8", "replace").decode("utf-8")
        return self._without(mark if mark in text else "").encode(text, add_special_tokens=False).ids

    def _without(self, mark: str) -> tokenizers.Tokenizer:
        """A tokenizer that cuts a text at control tokens and then takes the mark away."""
        if mark not in self._inner:
            inner = tokenizers.Tokenizer.from_str(json.dumps(self._json))
            if mark:
                first = [] if inner.normalizer is None else [inner.normalizer]
                inner.normalizer = normalizers.Sequence([normalizers.Replace(mark, ""), *first])
            self._inner[mark] = inner
        return self._inner[mark]


def _read_line(descriptor: int, end: float) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while not pieces or not pieces[-1].endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError
        piece = os.read(descriptor, 1 << 20)
        size += len(piece)
        if not piece or size > _LARGEST:
            raise TimeoutError
        pieces.append(piece)
    return b"".join(pieces)


def unused_mark(texts: Iterable[str]) -> str:
    """A code point that is in none of the texts."""
    used = set().union(*(set(text) for text in texts))
    for mark in MARKS:
        if mark not in used:
            return mark
    raise UserError("A message holds every code point that Unicode reserves for no character: take them out.")


def keep_apart(text: str, controls: Iterable[str], mark: str) -> str:
    """`text` with `mark` in whatever spells a control token, or could be part of one together with what surrounds it.

    Without the marks it is the same text.
    """
    controls = list(controls)
    for control in controls:
        while control in text:  # more than once: occurrences may overlap
            text = text.replace(control, control[0] + mark + control[1:])
    # A template may trim white space, so what counts is the last and the first sign.
    core = text.rstrip()
    if any(core.endswith(control[:size]) for control in controls for size in range(1, len(control))):
        text = core + mark + text[len(core) :]
    core = text.lstrip()
    if any(core.startswith(control[-size:]) for control in controls for size in range(1, len(control))):
        text = text[: len(text) - len(core)] + mark + core
    core = text.strip()
    if core and any(core in control[1:-1] for control in controls):  # the middle, whose ends the template may have
        text = text.replace(core, mark + core, 1)
    return text
