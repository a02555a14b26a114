"""Sources: where an engine's batches come from.

A source yields updates: the micro-batches of one step of the optimiser, for the whole world. Their order is a function
of the seed and the global index, never of the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch

from headwater.corpus.shards import Shards
from headwater.errors import UserError
from headwater.training.batch import LEARN_BUDGET, Batch, Packer, Row, collate, split_by_tokens, stack_packed


class Source(Protocol):
    """What the engine asks of a source."""

    def take(self) -> list[Batch] | None:
        """The micro-batches of the next update, or None at the end."""

    def progress(self) -> float:
        """Share of the work that is done, 0 to 1; schedules follow it."""

    def at_boundary(self) -> bool:
        """Whether `state_dict` is whole here: checkpoints are written only at boundaries."""

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Hears how the last update went."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def permutation(seed: int, epoch: int, count: int) -> torch.Tensor:
    """The order of `count` items in an epoch: a function of seed and epoch alone."""
    return torch.randperm(count, generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63))


class Counted:
    """A source of so many updates: all but `take`, for those whose place is the number of updates taken; others have a state
    of their own.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.step = steps, 0

    def progress(self) -> float:
        return self.step / self.steps if self.steps else 1.0

    def at_boundary(self) -> bool:
        return True

    def observe(self, metrics: Mapping[str, float]) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


class _Documents(Counted):
    """Documents of token shards, shuffled per epoch."""

    def __init__(self, shards: Shards, seed: int, steps: int) -> None:
        super().__init__(steps)
        self.shards, self.seed = shards, seed
        self.cursor = 0
        """Global index of the next document; its epoch is cursor // documents."""
        self._order: tuple[int, torch.Tensor] | None = None

    def _next_document(self) -> list[int]:
        epoch, place = divmod(self.cursor, len(self.shards))
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, permutation(self.seed, epoch, len(self.shards)))
        self.cursor += 1
        return self.shards.document(int(self._order[1][place])).tolist()  # type: ignore[no-any-return]


class DocumentStream(_Documents):
    """Documents packed into rows of `width` tokens; an update is `rows` rows."""

    def __init__(self, shards: Shards, *, seed: int, width: int, rows: int, steps: int, rows_per_batch: int) -> None:
        super().__init__(shards, seed, steps)
        self.rows, self.rows_per_batch = rows, rows_per_batch
        self.packer = Packer(width)

    def take(self) -> list[Batch] | None:
        if self.step >= self.steps:
            return None
        rows = []
        for _ in range(self.rows):
            while not self.packer.ready():
                self.packer.add(self._next_document())
            rows.append(self.packer.row())
        self.step += 1
        return [
            stack_packed(rows[start : start + self.rows_per_batch])
            for start in range(0, self.rows, self.rows_per_batch)
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "cursor": self.cursor, "packer": self.packer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.cursor = state["step"], state["cursor"]
        self.packer.load_state_dict(state["packer"])


class DocumentRows(_Documents):
    """Each document a row, or several where it is longer than `width`; `prepare` makes them, and what is random in it
    follows from the global index of the row. An update has at least `tokens` tokens of text.
    """

    def __init__(
        self,
        shards: Shards,
        prepare: Callable[[Sequence[int], int], Row],
        *,
        seed: int,
        width: int,
        tokens: int,
        steps: int,
        budget: int,
    ) -> None:
        super().__init__(shards, seed, steps)
        if width < 2:
            raise UserError(
                f"A context of {width} token leaves nothing to predict: set pretrain.model.context to at least 2."
            )
        self.prepare, self.width, self.tokens, self.budget = prepare, width, tokens, budget
        self.waiting: list[list[int]] = []
        """Parts of the last document, for the next update."""
        self.index = 0
        """Of the next row."""

    def take(self) -> list[Batch] | None:
        if self.step >= self.steps:
            return None
        rows, tokens = list[Row](), 0
        while tokens < self.tokens:
            while not self.waiting:
                self.waiting = parts(self._next_document(), self.width)
            part = self.waiting.pop(0)
            rows.append(self.prepare(part, self.index))
            self.index += 1
            tokens += len(part)
        self.step += 1
        return split_by_tokens(rows, self.budget)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "cursor": self.cursor, "waiting": list(self.waiting), "index": self.index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.cursor = state["step"], state["cursor"]
        self.waiting, self.index = list(state["waiting"]), state["index"]


def parts(document: Sequence[int], width: int) -> list[list[int]]:
    """A document cut into as few parts of at most `width` tokens as it takes, of like length; none of a single token."""
    count = -(-len(document) // width)
    ends = [len(document) * number // count for number in range(count + 1)]
    return [list(document[begin:end]) for begin, end in pairwise(ends) if end - begin > 1]


class Examples(Counted):
    """A labelled set: groups of rows, shuffled per epoch; an update takes `groups_per_update` of them.

    A group is what must stay together: one dialogue, or the K answers of a ranking. shares: as `split_by_tokens` takes it.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Row]],
        *,
        seed: int,
        epochs: int,
        groups_per_update: int,
        budget: int = LEARN_BUDGET,
        shares: bool = False,
    ) -> None:
        self.per_epoch = -(-len(groups) // groups_per_update)
        super().__init__(self.per_epoch * epochs)
        self.shares = shares
        self.groups, self.seed, self.groups_per_update, self.budget = groups, seed, groups_per_update, budget

    def take(self) -> list[Batch] | None:
        if self.step >= self.steps:
            return None
        epoch, place = divmod(self.step, self.per_epoch)
        order = permutation(self.seed, epoch, len(self.groups))
        chosen = order[place * self.groups_per_update : (place + 1) * self.groups_per_update].tolist()
        self.step += 1
        return self.batches([self.groups[index] for index in chosen])

    def batches(self, groups: Sequence[Sequence[Row]]) -> list[Batch]:
        """Micro-batches of single rows; `GroupedExamples` keeps groups together."""
        return split_by_tokens([row for group in groups for row in group], self.budget, self.shares)


class GroupedExamples(Examples):
    """Examples whose groups stay in one batch: the K answers of a ranking, or the two of a pair."""

    def batches(self, groups: Sequence[Sequence[Row]]) -> list[Batch]:
        """Micro-batches of whole groups within the token budget."""
        batches, rows, width = [], list[Row](), 0
        for group in groups:
            widest = max(width, *(len(row) for row in group))
            if rows and widest * (len(rows) + len(group)) > self.budget:
                batches.append(collate(rows))
                rows, widest = [], max(len(row) for row in group)
            rows, width = rows + list(group), widest
        return [*batches, collate(rows)]
