"""New tasks where nothing is left to judge."""

from __future__ import annotations

from typing import Protocol


class Supply(Protocol):
    """Makes tasks."""

    @property
    def is_at_work(self) -> bool:
        """Whether new tasks are on their way."""
        ...

    def ask(self) -> None:
        """Has more tasks made, unless they are being made or there are no more."""
        ...
