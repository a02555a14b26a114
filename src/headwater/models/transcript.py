"""The text of an answer while its tokens come: whole characters only, cut before a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Token ids → text, as `tokenizer.decode`; bytes that are not yet a character become � at its end."""

_UNFINISHED = "\ufffd"


class Transcript:
    """Add tokens one by one; `text` is what may be shown: it only grows, and never holds a part of a stop string."""

    def __init__(self, decode: Decode, stop_strings: Sequence[str] = ()) -> None:
        self.text = ""
        self.stopped = False
        """Whether a stop string has come."""
        self._decode = decode
        self._stop_strings = stop_strings
        self._read = ""
        """All whole characters so far; `text` lacks those at its end that may begin a stop string."""
        self._settled = ""
        """What of `_read` is not decoded again."""
        self._known: list[int] = []
        """The last tokens of `_settled`. Decoded together with the next ones: some tokenizers leave out the space
        before the first word they are given."""
        self._new: list[int] = []

    def add(self, token: int) -> None:
        """One more token."""
        self._new.append(token)
        text = self._decode([*self._known, *self._new])[len(self._decode(self._known)) :]
        self._read = self._settled + text.rstrip(_UNFINISHED)
        if text and not text.endswith(_UNFINISHED):
            self._settled, self._known, self._new = self._read, self._new, []
        # What was shown holds no beginning of a stop string, so that none begins there.
        places = [place for stop in self._stop_strings if (place := self._read.find(stop, len(self.text))) >= 0]
        self.stopped = bool(places)
        self.text = self._read[: min(places, default=len(self._read) - self._held_back())]

    def finish(self) -> None:
        """No more tokens come: what looked like the beginning of a stop string was none."""
        if not self.stopped:
            self.text = self._read

    def _held_back(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        return max(
            (
                length
                for stop in self._stop_strings
                for length in range(1, len(stop))
                if self._read.endswith(stop[:length])
            ),
            default=0,
        )
