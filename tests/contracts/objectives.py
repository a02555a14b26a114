"""Each registered objective with a small model that fits it and rows to learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from headwater.models.model import Model
from headwater.objectives.pretraining import MASK_SHARE
from headwater.objectives.registry import objective_class
from headwater.objectives.supervised import Span
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.settings import PpoSettings
from headwater.training.batch import Batch, Row, collate
from tiny import tiny_config, tiny_model

Groups = list[list[Row]]


@dataclass(frozen=True)
class Case:
    """An objective, its modules, and groups of rows; a group is what must stay in one batch."""

    objective: Callable[[], Any]
    modules: Callable[[], dict[str, Model]]
    groups: Callable[[Any], Groups]
    measure: str = "loss"
    """The term that falls when the rows are learnt."""
    floor: float = 0.1
    """Share of the first loss that is below what any model without the data could reach."""
    rate: float = 5e-3
    whole_groups: bool = False
    """The rows of a group must not be parted."""

    def updates(self, groups: Sequence[Sequence[Row]], parts: int = 1) -> list[Batch]:
        """The groups as so many micro-batches."""
        return [
            collate([row for group in groups[start::parts] for row in group])
            for start in range(min(parts, len(groups)))
        ]


def texts(count: int = 8, least: int = 4, most: int = 20, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(least, most, (count,), generator=generator).tolist()
    return [torch.randint(5, 50, (length,), generator=generator).tolist() for length in lengths]


def of_texts(objective: Any) -> Groups:
    """Rows of single texts, by index where the objective draws at random."""
    try:
        return [[objective.prepare(text, index)] for index, text in enumerate(texts())]
    except TypeError:
        return [[objective.prepare(text)] for text in texts()]


def dialogues(objective: Any) -> Groups:
    return [
        [objective.prepare_dialogue([Span(tuple(text[:2]), False), Span(tuple(text[2:]), True)])] for text in texts()
    ]


def pairs(objective: Any) -> Groups:
    return [[objective.pair(text, text[::-1])] for text in texts()]


def labelled(objective: Any) -> Groups:
    return [[objective.prepare(text, index % 3)] for index, text in enumerate(texts())]


def answers(objective: Any) -> Groups:
    return [[objective.prepare(text, index % len(text), len(text) - 1)] for index, text in enumerate(texts(least=8))]


def rankings(objective: Any) -> Groups:
    every = texts(9)
    return [objective.prepare(every[start : start + 3], [0, 1, 2], start) for start in (0, 3, 6)]


def episodes(objective: Any, sources: bool = False) -> Groups:
    """What the estimator of the advantages needs; perhaps with what an encoder reads."""
    estimator = ESTIMATORS[objective.settings.estimator]
    rows = []
    for text in texts(least=6):
        ids = torch.tensor(text)
        generator = torch.Generator().manual_seed(len(text))
        draw = lambda size=len(text) - 1, source=generator: torch.randn(size, generator=source)  # noqa: E731
        values = {"mask": (torch.arange(len(text) - 1) >= 2).float(), "targets": ids[1:].clone()}
        values |= {"old_log_probabilities": draw() / 10 - 4, "advantages": draw()}
        if estimator.critic:
            values |= {"old_values": draw() / 10, "returns": draw() / 5}
        else:  # what falls must be able to: towards a ratio of 0, or to the reference
            values["advantages"] = torch.full((len(text) - 1,), -float(not estimator.kl_in_loss))
        if estimator.kl_in_loss:
            values["reference"] = -draw().abs() - 1
        row = Row(ids[:-1], values, {"critic_only": 0, "beta": 0.5})
        row.source = ids[: len(text) % 4 + 1] if sources else None
        rows.append([row])
    return rows


def pairs_of_answers(objective: Any) -> Groups:
    return [
        objective.prepare(text[:2], text[2:], text[:1:-1], reference=(-6.0, -5.0), pair=index)
        for index, text in enumerate(texts(least=6))
    ]


def words(ids: Sequence[int]) -> list[range]:
    """Every two tokens are a word."""
    return [range(start, min(start + 2, len(ids))) for start in range(0, len(ids), 2)]


def one(
    kind: str = "language-model", name: str = "model", classes: int = 2, **changes: Any
) -> Callable[[], dict[str, Model]]:
    def modules() -> dict[str, Model]:
        return {name: Model(tiny_config(**changes), kind, classes).initialise(1)}  # type: ignore[arg-type]

    return modules


PAIR = {"form": "encoder-decoder", "decoder_layers": 2}


def made(name: str, *given: Any, **named: Any) -> Callable[[], Any]:
    return lambda: objective_class(name)(*given, **named)


CASES = {  # an objective's name, perhaps with a variant after a comma
    "causal": Case(made("causal"), one(), of_texts),
    "prefix": Case(made("prefix", 3), one(), of_texts),
    "supervised": Case(made("supervised"), one(), dialogues),
    "masked": Case(
        made("masked", 4, 60, words, 3, (0, 1, 2, 3), share=MASK_SHARE), one("masked", form="encoder"), of_texts
    ),
    "denoising": Case(made("denoising", list(range(50, 60)), 3, start=0, share=MASK_SHARE), one(**PAIR), of_texts),
    "sequence": Case(made("sequence", 0), one(**PAIR), pairs),
    "classification": Case(made("classification"), one("class", classes=3, form="encoder"), labelled),
    "span": Case(made("span"), one("span", form="encoder"), answers),
    "preference": Case(made("preference"), one("reward", name="reward"), rankings, whole_groups=True),
    "policy": Case(
        made("policy", PpoSettings(value_clip=100.0)),
        lambda: {"policy": tiny_model(), "critic": tiny_model("critic")},
        episodes,
        measure="value_loss",
    ),
    "policy, rloo": Case(
        made("policy", PpoSettings(estimator="rloo", group=2, clip=0.99)),
        lambda: {"policy": tiny_model()},
        episodes,
        measure="policy_loss",
    ),
    "policy, grpo": Case(
        made("policy", PpoSettings(estimator="grpo", group=2)),
        lambda: {"policy": tiny_model()},
        episodes,
        measure="kl_loss",
    ),
    "policy, encoder-decoder": Case(
        made("policy", PpoSettings(value_clip=100.0)),
        lambda: {"policy": tiny_model(**PAIR), "critic": tiny_model("critic", **PAIR)},
        partial(episodes, sources=True),
        measure="value_loss",
    ),
    "direct-preference, encoder-decoder": Case(
        made("direct-preference", beta=0.5, start=0), one(name="policy", **PAIR), pairs_of_answers, whole_groups=True
    ),
    "direct-preference": Case(
        made("direct-preference", beta=0.5), one(name="policy"), pairs_of_answers, whole_groups=True
    ),
}
