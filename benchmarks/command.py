"""The command `headwater`, given by another program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

HEADWATER = [sys.executable, "-m", "headwater"]
"""Of this Python, whatever stands first in the PATH."""


def headwater_run(
    recipe: Path,
    overrides: Sequence[str],
    *,
    run: str,
    root: Path,
    reuse: str | None = None,
    until: str | None = None,
) -> list[str]:
    """The words of `headwater run`."""
    words = [*HEADWATER, "run", str(recipe), *overrides, "--run", run, "--runs", str(root)]
    words += ["--reuse", reuse] if reuse else []
    return words + (["--until", until] if until else [])
