"""The methods of the study `methods` and the SFT policy beside each other: strengths by Bradley–Terry, for each judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from headwater.evaluation.bradley_terry import Strength, rank
from headwater.studies.methods_basis import SCORES

SFT = "SFT"
Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""As a trial's `SCORES` holds them."""


def read_scores(folder: Path) -> Scores | None:
    """Of a finished trial; None where an older version made it, which kept none."""
    path = folder / SCORES
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def ranked(trials: Mapping[str, Sequence[Scores | None]], *, resamples: int = 1000) -> dict[str, list[Strength]]:
    """{method: the scores of its trials, a seed each} → {judge: strengths, that of SFT, 0, first}.

    Every answer of a method, whatever its seed, is compared with every answer of another to the same opening; the intervals
    draw openings. A method of which a trial has no scores is left out.
    """
    known: dict[str, list[Scores]] = {}
    for name, each in trials.items():
        found = [one for one in each if one is not None]
        if len(found) == len(each):
            known[name] = found
    if not known:
        return {}
    first = next(iter(known.values()))[0]
    return {
        judge: rank(
            {SFT: np.array(first[judge]["before"])}
            | {name: np.array([one[judge]["after"] for one in found]) for name, found in known.items()},
            resamples=resamples,
        )
        for judge in first
    }
