"""Names of annotators that are no known person's: simulated ones, and the one that stands for all unknown people."""

from __future__ import annotations

ANONYMOUS = "anonymous raters (published data)"

SIMULATED = "simulated:"
"""How the name of every simulated annotator begins, and of nobody else."""


def is_simulated(name: str) -> bool:
    """Whether a name is a simulated annotator's."""
    return name.startswith(SIMULATED)
