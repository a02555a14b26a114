"""Rankings of K sentences, computed from their mean ratings: what a reward model learns from where people only rated.

A derived ranking points to the ratings it was made of and is never counted as a person's ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from headwater.errors import UserError
from headwater.feedback.judgements import Groups
from headwater.feedback.ratings import AXIS
from headwater.feedback.store.reader import MeanRating
from headwater.feedback.store.store import Store

METHOD = "mean rating"


def group_by_mean(means: Sequence[tuple[int, float]], tie: float) -> Groups:
    """(response, mean) pairs → groups of response ids, best first, by id within a group.

    From the best down, a response joins the group of the one before while it is less than `tie` below the *best* of
    that group; otherwise it opens the next. So no two in a group differ by `tie` or more (chains of small steps cannot
    grow into one large tie), and every group lies wholly above the next. Two neighbours on either side of a border may
    be closer than `tie`: that is the price of a tie being transitive. Equal means always tie, with `tie` = 0 too.
    """
    groups: Groups = []
    best = 0.0
    for response, mean in sorted(means, key=lambda pair: (-pair[1], pair[0])):
        # Rounded, since 2.3 - 2.2 is 0.0999… in binary and must not be less than 0.1.
        gap = round(best - mean, 9)
        if groups and (gap == 0 or gap < tie):
            groups[-1].append(response)
        else:
            groups.append([response])
            best = mean
    return [sorted(group) for group in groups]


def mix(ordered: Sequence[int], answers: int, generator: np.random.Generator) -> list[list[int]]:
    """Deals items, ordered by mean, into sets of `answers` that each span the scale; every item is in exactly one.

    The order is cut into `answers` bands of nearly equal size, each is shuffled, and the i-th set takes the i-th of
    each band. What is left over forms a smaller last set; a single one left over joins the set before it.
    """
    if len(ordered) <= answers:
        return [list(ordered)] if len(ordered) >= 2 else []
    bands = [generator.permutation(band) for band in np.array_split(np.asarray(ordered), answers)]
    sets = [[int(band[i]) for band in bands if i < len(band)] for i in range(len(bands[0]))]
    if len(sets[-1]) == 1:
        sets[-2].extend(sets.pop())
    return sets


def derive_rankings(
    store: Store,
    *,
    answers: int,
    rankings_per_sentence: int,
    tie: float,
    seed: int,
    split: str = "train",
    axis: str = AXIS,
    made: int | None = None,
) -> int:
    """Writes derived rankings of every prompt of `split` and returns how many; the same seed gives the same ones.

    Each rated response of a prompt stands in `rankings_per_sentence` rankings, each among `answers` responses.
    """
    rated = store.mean_ratings(split, axis=axis)
    if not rated:
        raise UserError(f"{store.place} has no ratings `{axis}` for `{split}`: import some first.")
    settings = {
        "answers": answers, "rankings_per_sentence": rankings_per_sentence, "tie": tie, "seed": seed, "axis": axis,
    }  # fmt: skip
    generator = np.random.default_rng(seed)
    rows = []
    for prompt, members in groupby(sorted(rated, key=lambda r: (r.prompt, r.mean, r.response)), lambda r: r.prompt):
        ordered = list(members)
        sets = [
            chosen
            for _ in range(rankings_per_sentence)
            for chosen in mix(range(len(ordered)), answers, generator)
        ]  # fmt: skip
        for chosen in sets:
            row = ranking_row([ordered[i] for i in chosen], tie)
            rows.append({**row, "prompt_id": prompt, "method": METHOD, "settings": settings})
    with store.writing(made) as writer:
        return len(writer.insert("derived_ranking", rows, "derivation of rankings"))


def ranking_row(responses: Sequence[MeanRating], tie: float) -> dict[str, object]:
    return {
        "ranking": group_by_mean([(rated.response, rated.mean) for rated in responses], tie),
        "judgements": sorted(id_ for rated in responses for id_ in rated.judgements),
    }
