"""Stage 2: documents from the recipe's sources, cleaned, as Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headwater.corpus.build import Ledger, build, write_corpus
from headwater.corpus.rated import REVIEWS_FILE, read_rated
from headwater.feedback.recipe_dialogues import PROMPTS, heldout_texts
from headwater.progress import say, track
from headwater.runs import Stage

HELDOUT_SHARES = ("select", "judge", "prompt")
"""Shares of the review sentences and dialogues that no model may be pretrained on."""


def run(stage: Stage) -> dict[str, Any]:
    """Writes documents.parquet and dropped.jsonl; returns what came in, what stayed, and what was dropped why."""
    samples = stage.parent("samples")
    ledger = Ledger()
    documents = build(stage.recipe.corpus, samples, heldout_sentences(samples), ledger)
    write_corpus(track(documents, "clean the documents"), stage.folder, ledger)
    for source in ledger.read:
        if not ledger.kept[source]:
            reason, count = ledger.dropped_by_source[source].most_common(1)[0]
            say(
                f"corpus: nothing was kept of `{source}`: {count:,} of its {ledger.read[source]:,} documents as `{reason}`."
            )
    return ledger.metrics()


def heldout_sentences(samples: Path) -> list[str]:
    """The review sentences, and what was said in dialogues, that are kept for choosing, judging and prompting."""
    found: list[str] = []
    if (reviews := samples / REVIEWS_FILE).is_file():
        found += [sentence.text for sentence in read_rated(reviews) if sentence.share in HELDOUT_SHARES]
    if (samples / PROMPTS).is_file():
        found += heldout_texts(samples, HELDOUT_SHARES)
    return found
