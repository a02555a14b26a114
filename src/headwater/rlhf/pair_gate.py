"""The gate for judged answers: how many held-out pairs the reward puts in the right order, beside length and words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.calibration import calibration, sigmoid
from headwater.evaluation.pairwise import Accuracy, PairBagOfWords, PairLength, PairScorer, accuracy
from headwater.evaluation.text_metrics import lengths
from headwater.feedback.orders import ordered_pairs
from headwater.feedback.preference_pairs import pairs_of
from headwater.feedback.reader import Ranking
from headwater.progress import say
from headwater.rlhf.dialogues import dialogue_ids
from headwater.rlhf.scoring import RewardEnsemble
from headwater.storage import write_atomically

Array = np.ndarray[Any, Any]


def pair_gate(
    members: RewardEnsemble,
    train: Sequence[Ranking],
    heldout: Sequence[Ranking],
    tokenizer: Tokenizer,
    folder: Path,
    seed: int,
) -> dict[str, Any]:
    """Metrics as the gate on rated sentences gives them; writes calibration.json into `folder`.

    A dialogue is read as in training: without its beginning where it is longer than the context. Without a held-out pair
    there is no accuracy, and PPO's gate says so.
    """
    pairs = pairs_of(heldout)
    if not pairs:
        say("reward: no held-out pair says how good the reward model is; judge answers of the share `prompt`, too.")
        return {"pairs": 0, "accuracy": None, "accuracy_ci": None, "length_baseline": None, "gate": "pairs"}
    texts = {one: text for ranking in heldout for one, text in ranking.responses.items()}
    answers = list(texts)
    read = dialogues_of(heldout, tokenizer, members.model.config.context)
    raw = members.raw([read[one] for one in answers])
    each = members.normalised(raw)
    reward = (members.combine(each) if len(each) > 1 else each[0]).numpy()
    place = {one: number for number, one in enumerate(answers)}
    # In the order of `pairs`, which turns every second pair round.
    sides = [(place[better], place[worse]) for ranking in heldout for better, worse in ordered_pairs(ranking.groups)]
    first = np.array([(side if pair.first_is_better else side[::-1]) for side, pair in zip(sides, pairs, strict=True)])

    def margin(scores: Array) -> Array:
        return np.asarray(scores[first[:, 0]] - scores[first[:, 1]], dtype=np.float64)

    found = accuracy(margin(reward), pairs, seed=seed)
    baselines = {
        name: _baseline(scorer, train, pairs, seed)
        for name, scorer in (("length", PairLength()), ("words", PairBagOfWords()))
    }
    curve = calibration(sigmoid(margin(raw.mean(dim=0).numpy())), [float(pair.first_is_better) for pair in pairs])
    write_atomically(folder / "calibration.json", json.dumps(asdict(curve)) + "\n")
    long = np.array(lengths([texts[one] for one in answers]), dtype=np.float64)
    length, words = baselines["length"], baselines["words"]
    return {
        "gate": "pairs",
        "accuracy": found.accuracy,
        "accuracy_ci": [found.low, found.high],
        "pairs": found.pairs,
        "pair_prompts": found.prompts,
        "accuracy_all": found.accuracy,
        "bag_of_words": words.accuracy if words else None,
        "bag_of_words_ci": [words.low, words.high] if words else None,
        "length_baseline": length.accuracy if length else None,
        "length_correlation": float(np.corrcoef(reward, long)[0, 1]) if long.std() else None,
        "ece": curve.error,
        **({"spread_heldout": float(each.std(dim=0).mean())} if len(each) > 1 else {}),
    }


def dialogues_of(rankings: Sequence[Ranking], tokenizer: Tokenizer, context: int) -> dict[int, list[int]]:
    """{response: token ids of the dialogue that it ends}."""
    return {
        one: dialogue_ids([*ranking.conversation, {"role": "assistant", "content": text}], tokenizer, context)
        for ranking in rankings
        for one, text in ranking.responses.items()
    }


def _baseline(scorer: PairScorer, train: Sequence[Ranking], pairs: list[Any], seed: int) -> Accuracy | None:
    """What it reaches on `pairs`; None where there is too little to learn from."""
    try:
        scorer.fit(pairs_of(train))
    except UserError:
        return None
    return accuracy(scorer.margins(pairs), pairs, seed=seed)
