"""The command `headwater run`, given by another program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def headwater_run(
    recipe: Path,
    overrides: Sequence[str],
    *,
    run: str,
    root: Path,
    reuse: str | None = None,
    until: str | None = None,
) -> list[str]:
    """The words of the command, for this Python, whatever stands first in the PATH."""
    start = [sys.executable, "-c", "from headwater.cli import main; main()", "run"]
    words = [*start, str(recipe), *overrides, "--run", run, "--runs", str(root)]
    words += ["--reuse", reuse] if reuse else []
    return words + (["--until", until] if until else [])
