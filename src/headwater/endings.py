"""How a command ends: well, stopped, or with one sentence about what was wrong; and how it can be stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from headwater.errors import Interrupted, UserError

REFUSED, INTERRUPTED = 2, 130
"""Exit codes: of a command that could not do what it was asked, and of one that was stopped."""

STOPPED = "Stopped; the same command goes on from here."


class Commands(TyperGroup):
    """Turns what ends a command into a sentence and an exit code."""

    debug = False

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Interrupted:
            return _end(STOPPED, INTERRUPTED)
        except KeyboardInterrupt:
            return _end("", INTERRUPTED)
        except UserError as error:
            return _end(str(error), REFUSED)
        except Exception as error:
            if (sentence := _sentence(error)) is None:
                raise
            return _end(sentence, REFUSED)


def _sentence(error: Exception) -> str | None:
    """What to tell of an error that comes from the machine; None where it is a mistake of ours."""
    place = getattr(error, "filename", None) or "a file of the run"
    from headwater import storage

    if storage.is_disk_full(error):
        return str(storage.disk_full(place))
    if isinstance(error, PermissionError) or "Read-only file system" in str(error):
        return f"{place} may not be read or written here: change its permissions, or choose another folder with --runs."
    return None


def _end(sentence: str, code: int) -> None:
    if Commands.debug:
        import traceback

        traceback.print_exc()
    if sentence:
        print(sentence, file=sys.stderr, flush=True)
    raise typer.Exit(code)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C or SIGTERM ends the work inside as `Interrupted`, the second one ends the process at once.

    Training loops put handlers of their own in place meanwhile, to save a checkpoint first.
    """

    def at_once(_number: int, _frame: FrameType | None) -> None:
        os._exit(INTERRUPTED)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, at_once)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
