"""Stage `feedback`: what people said into a store, rankings of it, and how far the raters agree.

Judgements come from the rated or labelled texts of the samples, from the recipe's comparisons, from a store in which people
judge a policy's answers, or, in a further round, from the run before and whoever judges its policy's answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwater.errors import UserError

if TYPE_CHECKING:
    from headwater.corpus.rated import RatedSentence
    from headwater.feedback.store import Store
    from headwater.runs import Stage

STORE = "feedback.db"

RANKED = ("train", "select", "judge")
"""Shares whose sentences are ranked: for the reward model, the choice of checkpoint, and the judges."""


def run(stage: Stage) -> dict[str, Any]:
    """Writes feedback.db and returns its metrics. An interrupted attempt is begun anew: it takes seconds, or, where a policy
    has to answer, minutes; what people said in their store stays.
    """
    from headwater.feedback.store import Store

    recipe, path = stage.recipe, stage.folder / STORE
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(STORE + ending).unlink(missing_ok=True)
    if recipe.dialogues is None and not recipe.asks:
        with Store(path) as store:
            metrics = from_ratings(stage, store)
            store.seal()  # the one file is the whole store: its checksum goes into the manifest
        return metrics
    from headwater.stages.judged import collect, measured

    with Store(path) as store:
        collect(stage, store)
        metrics = measured(stage, store)
        store.seal()
    return metrics


def from_ratings(stage: Stage, store: Store) -> dict[str, Any]:
    """Brings the samples' ratings or labels into the store and derives rankings from them."""
    from headwater.corpus.rated import REVIEWS_FILE, read_rated
    from headwater.corpus.samples import set_of
    from headwater.feedback.derive import derive_rankings
    from headwater.feedback.ratings import LABELS, PEOPLE, import_ratings
    from headwater.progress import Progress

    settings = stage.recipe.feedback
    sentences = list(read_rated(stage.parent("samples") / REVIEWS_FILE))
    if not sentences:
        raise UserError("There is no rated sentence in the samples: add the source `samples: reviews` to the recipe.")
    labelled = set_of(sentences[0].source).labelled
    origin = LABELS if labelled else PEOPLE
    with Progress("ratings", 3) as progress:
        ratings = import_ratings(store, sentences, stage.recipe.sft.instructions, origin=origin)
        progress.advance(note="imported")
        rankings = {
            split: derive_rankings(
                store,
                answers=settings.answers,
                rankings_per_sentence=settings.rankings_per_sentence,
                tie=settings.tie,
                seed=stage.seed,
                split=split,
                axis=origin.axis,
                made=origin.made,
            )
            for split in RANKED
        }
        progress.advance(note="ranked")
        agreed = {} if labelled else agreement(sentences, stage.seed)
        progress.advance(note="agreement")
    return {
        "labelled": labelled,
        "judgements": ratings,
        "sentences": len(sentences),
        "rankings": rankings["train"],
        "rankings_by_share": rankings,
        **agreed,
    }


def agreement(sentences: Sequence[RatedSentence], seed: int) -> dict[str, Any]:
    """Krippendorff's α of all ratings, with its interval, and per source. Of labels there is none: nobody else was asked."""
    from headwater.feedback.agreement import krippendorff_alpha

    by_source: dict[str, list[list[float]]] = {}
    for sentence in sentences:
        by_source.setdefault(sentence.source, []).append(sentence.ratings)
    every = krippendorff_alpha([values for units in by_source.values() for values in units], seed=seed)
    return {
        "krippendorff_alpha": every.alpha,
        "krippendorff_alpha_ci": [every.low, every.high],
        "krippendorff_alpha_by_source": {
            source: krippendorff_alpha(units, resamples=0).alpha for source, units in sorted(by_source.items())
        },
    }
