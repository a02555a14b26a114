"""Which slots of a cache keep what earlier rows have read, so that a prompt that begins alike need not be read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Prefixes:
    """Slots set aside for rows that have left; where all are taken, the one unused for longest gives way."""

    def __init__(self, slots: Iterable[int]) -> None:
        self._free = list(slots)
        self._held: dict[int, list[int]] = {}
        """Slot → its tokens, the last used one at the end."""
        self.slots = len(self._free)

    def find(self, prompt: Sequence[int]) -> tuple[int, int]:
        """The slot with the longest common beginning, and its length; length 0 where there is none."""
        best = (0, 0)
        for slot, tokens in self._held.items():
            if (length := common(tokens, prompt)) > best[1]:
                best = slot, length
        if best[1]:
            self._use(best[0])
        return best

    def keep(self, tokens: Sequence[int]) -> int | None:
        """The slot that these tokens' keys and values should be copied to; None where they are kept already, or nothing is.

        They take the place of an entry that they go on from.
        """
        if not self.slots or not tokens:
            return None
        longest = next((slot for slot, held in self._held.items() if common(held, tokens) == len(tokens)), None)
        if longest is not None:
            self._use(longest)
            return None
        slot = next((slot for slot, held in self._held.items() if common(held, tokens) == len(held)), None)
        if slot is None:
            slot = self._free.pop() if self._free else next(iter(self._held))
        self._held.pop(slot, None)
        self._held[slot] = list(tokens)
        return slot

    def _use(self, slot: int) -> None:
        self._held[slot] = self._held.pop(slot)


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two rows have in common from their beginning on."""
    shortest = min(len(left), len(right))
    if left[:shortest] == right[:shortest]:
        return shortest
    return next(place for place in range(shortest) if left[place] != right[place])
