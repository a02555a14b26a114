"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from headwater.models.answer import Answer

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds."""


class Histogram:
    """How many values were at most as large as each of `BUCKETS`."""

    def __init__(self) -> None:
        self.counts = [0] * len(BUCKETS)
        self.count, self.sum = 0, 0.0

    def observe(self, value: float) -> None:
        """One more value."""
        self.count += 1
        self.sum += value
        for index, bound in enumerate(BUCKETS):
            self.counts[index] += value <= bound


class Metrics:
    """Counters since the start; the model thread and the event loop each write their own."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """(path, status) → requests."""
        self.prompt_tokens = self.reused_tokens = self.answer_tokens = 0
        self.answers = self.left = self.refused = 0
        self.first_token = Histogram()

    def count(self, answer: Answer) -> None:
        """An answer that has ended."""
        self.answers += 1
        self.prompt_tokens += len(answer.prompt)
        self.reused_tokens += answer.reused
        self.answer_tokens += len(answer.tokens)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """All of it; gauges: {name: (help, value)} of what is true now."""
        return "\n".join([*self._lines(gauges), ""])

    def _lines(self, gauges: Mapping[str, tuple[str, float]]) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests by path and status.")
        for (path, status), count in sorted(self.requests.items()):
            yield f'headwater_requests_total{{path="{path}",status="{status}"}} {count}'
        counters = {
            "answers_total": ("Answers that came to their end.", self.answers),
            "answers_left_total": ("Answers whose client went away.", self.left),
            "queue_refused_total": ("Requests refused because the queue was full.", self.refused),
            "prompt_tokens_total": ("Tokens of prompts.", self.prompt_tokens),
            "prompt_tokens_reused_total": ("Tokens of prompts that an earlier answer had read.", self.reused_tokens),
            "answer_tokens_total": ("Tokens of answers.", self.answer_tokens),
        }
        for name, (what, value) in counters.items():
            yield from _head(name, "counter", what)
            yield f"headwater_{name} {value}"
        for name, (what, amount) in gauges.items():
            yield from _head(name, "gauge", what)
            yield f"headwater_{name} {amount:g}"
        yield from _head("first_token_seconds", "histogram", "Seconds from a request to its first token.")
        found = self.first_token
        for bound, count in zip(BUCKETS, found.counts, strict=True):
            yield f'headwater_first_token_seconds_bucket{{le="{bound:g}"}} {count}'
        yield f'headwater_first_token_seconds_bucket{{le="+Inf"}} {found.count}'
        yield f"headwater_first_token_seconds_sum {found.sum:.6f}"
        yield f"headwater_first_token_seconds_count {found.count}"


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP headwater_{name} {what}"
    yield f"# TYPE headwater_{name} {kind}"
