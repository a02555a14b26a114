"""What a run learns from before anybody is asked, whether what was said suffices to go on, and what it is.

Judgements come from the rated or labelled texts of the samples, from the recipe's comparisons or, in a further round, from the
run before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from headwater.corpus.rated import REVIEWS_FILE, RatedSentence, read_rated
from headwater.corpus.samples import set_of
from headwater.corpus.shares import SHARES
from headwater.errors import UserError
from headwater.feedback.agreement.agreement import krippendorff_alpha
from headwater.feedback.agreement.rater_agreement import agreement_of_people
from headwater.feedback.derive import derive_rankings
from headwater.feedback.importing import import_comparisons
from headwater.feedback.orders import has_order
from headwater.feedback.ratings import LABELS, PEOPLE, import_ratings
from headwater.feedback.recipe_dialogues import read_comparisons
from headwater.feedback.store.copying import NO_TIME, copy_store
from headwater.feedback.store.store import STORE, Store
from headwater.progress import Progress
from headwater.recipe import Recipe
from headwater.runs import Stage

RANKED = ("train", "select", "judge")
"""Shares whose answers are ranked: for the reward model, the choice of checkpoint, and the judges."""


def begin(stage: Stage, store: Store) -> None:
    """What was said before this round: the run before's store, or the recipe's comparisons, or the samples' ratings."""
    recipe = stage.recipe
    if recipe.round.of is not None:
        with Store(stage.parent(f"feedback of {recipe.round.of}") / STORE, read_only=True) as before:
            copy_store(before, store)
    elif recipe.dialogues is None:
        from_ratings(stage, store)
    else:
        import_comparisons(store, read_comparisons(stage.parent("samples")), made=NO_TIME)


def from_ratings(stage: Stage, store: Store) -> dict[str, Any]:
    """Brings the samples' ratings or labels into the store and derives rankings from them; returns the stage's metrics."""
    settings = stage.recipe.feedback
    sentences = list(read_rated(stage.parent("samples") / REVIEWS_FILE))
    if not sentences:
        raise UserError("There is no rated sentence in the samples: add the source `samples: reviews` to the recipe.")
    labelled = set_of(sentences[0].source).labelled
    published = LABELS if labelled else PEOPLE
    with Progress("ratings", 3) as progress:
        ratings = import_ratings(store, sentences, stage.recipe.sft.instructions, published=published)
        progress.advance(note="imported")
        rankings = {
            split: derive_rankings(
                store,
                answers=settings.answers,
                rankings_per_sentence=settings.rankings_per_sentence,
                tie=settings.tie,
                seed=stage.seed,
                split=split,
                axis=published.axis,
                made=published.made,
            )
            for split in RANKED
        }
        progress.advance(note="ranked")
        agreed = {} if labelled else agreement_by_source(sentences, stage.seed)
        progress.advance(note="agreement")
    return {
        "labelled": labelled,
        "judgements": ratings,
        "sentences": len(sentences),
        "rankings": rankings["train"],
        "rankings_by_share": rankings,
        **agreed,
    }


def agreement_by_source(sentences: Sequence[RatedSentence], seed: int) -> dict[str, Any]:
    """Krippendorff's α of all ratings, with its interval, and per source. Of labels there is none: nobody else was asked."""
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


def shares_without_order(store: Store, number: int) -> list[str]:
    """Shares in which nobody has put answers in order yet, without which round `number` cannot go on."""
    return [
        share
        for share in (RANKED if number == 1 else ("train",))
        if not any(has_order(each.groups) and (number == 1 or each.round == number) for each in store.rankings(share))
    ]


def refuse_without_order(stage: Stage, store: Store) -> None:
    """Raises UserError where a share has nothing that a reward model could learn from."""
    for share in RANKED:
        rankings = list(store.rankings(share))
        if any(has_order(ranking.groups) for ranking in rankings):
            continue
        if rankings:
            raise UserError(
                f"In all {len(rankings):,} rankings of the share `{share}` the answers tie: judge some in which one is better."
            )
        raise no_ranking(stage.recipe, share)


def no_ranking(recipe: Recipe, share: str) -> UserError:
    """What is said where nobody has ranked anything of a share."""
    mend = (
        "give more comparisons as dialogues.comparisons"
        if recipe.feedback.store is None
        else "judge answers of this share, too"
    )
    return UserError(
        f"There is no ranking of the share `{share}`: {mend}, or name a store to judge in (feedback.store)."
    )


def refuse_round_without_order(stage: Stage, store: Store) -> None:
    """Raises UserError where all that a simulated annotator said of this round's training answers is that they tie: the round
    would teach nothing, whatever was said in earlier ones."""
    name, number = stage.recipe.feedback.annotator, stage.recipe.round.number
    own = [each for each in store.rankings("train") if each.annotator == name and each.round == number]
    if own and not any(has_order(each.groups) for each in own):
        raise UserError(
            f"{name} finds the answers in all {len(own):,} rankings of the share `train` in round {number} equally good, which "
            "teaches nothing: choose another feedback.annotator, ask people, or raise feedback.responses."
        )


def measured(store: Store) -> dict[str, Any]:
    """Who judged how much, what of it says nothing or contradicts itself, and how far people agree."""
    rankings = {share: list(store.rankings(share)) for share in SHARES}
    every = [ranking for those in rankings.values() for ranking in those]
    said = [ranking for ranking in every if not ranking.derived]
    shown = {response: text for ranking in said for response, text in ranking.responses.items()}
    orders: dict[tuple[Any, ...], set[str]] = {}
    for ranking in said:
        key = (ranking.annotator, ranking.prompt, tuple(sorted(ranking.responses)))
        orders.setdefault(key, set()).add(repr([sorted(group) for group in ranking.groups]))
    return {
        "judgements": len(store.judgements()),
        "sentences": len(shown),
        "rankings": len(rankings["train"]),
        "rankings_by_share": {share: len(those) for share, those in rankings.items()},
        "annotators": dict(Counter(str(ranking.annotator) for ranking in said).most_common()),
        "rankings_by_round": {str(number): count for number, count in sorted(Counter(r.round for r in every).items())},
        "all_tied": sum(not has_order(ranking.groups) for ranking in said),
        "contradictory": sum(len(found) > 1 for found in orders.values()),
        "empty_answers": sum(not text.strip() for text in shown.values()),
        **agreement_of_people(store).metrics(),
    }
