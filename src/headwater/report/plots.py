"""The plots of a run. Each takes data that were read already and returns inline SVG; None where there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from headwater.report.drawing import FIRST, FOURTH, INK, SECOND, THIRD, draw
from headwater.report.material import Row

Points = list[tuple[float, float]]


def number(value: Any) -> float | None:
    """A finite number, or None for anything else (a missing metric, NaN, a text)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def points(rows: Sequence[Row], x: str, y: str) -> Points:
    """(x, y) of the rows that have both as finite numbers, in order of x."""
    pairs = ((number(row.get(x)), number(row.get(y))) for row in rows)
    return sorted((a, b) for a, b in pairs if a is not None and b is not None)


def interval_of(value: Any) -> tuple[float, float] | None:
    """(low, high) from a pair of numbers."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def short(value: float) -> str:
    """1234567 → "1.23 M"; for axes."""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}"


def smoothed(series: Points, window: int) -> Points:
    """Means over the last `window` points at most; shows the trend of a noisy loss."""
    result, total = [], 0.0
    for index, (x, y) in enumerate(series):
        total += y - (series[index - window][1] if index >= window else 0.0)
        result.append((x, total / min(index + 1, window)))
    return result


def training_loss(
    rows: Sequence[Row], name: str = "loss", x: str = "tokens", x_label: str = "tokens read"
) -> Markup | None:
    """Training loss (nats per token), each step faint and its running mean on top."""
    series = points(rows, x, "loss")
    if len(series) < 2:
        return None

    def paint(axes: Any) -> None:
        axes.plot(*_columns(series), color=FIRST, alpha=0.25, linewidth=0.8)
        axes.plot(*_columns(smoothed(series, max(1, len(series) // 25))), color=FIRST)
        _label(axes, x_label, "loss (nats per token)")

    return draw(name, "Training loss", paint)


def heldout_curve(rows: Sequence[Row], expected: Sequence[Row]) -> Markup | None:
    """Held-out bits per byte against tokens; the expected curve (by step) is placed by this run's tokens per step."""
    measured = points(rows, "tokens", "bits_per_byte")
    per_step = _tokens_per_step(rows)
    reference = (
        [(step * per_step, value) for step, value in points(expected, "step", "bits_per_byte")] if per_step else []
    )
    if not measured and not reference:
        return None

    def paint(axes: Any) -> None:
        if reference:
            axes.plot(*_columns(reference), color=SECOND, linestyle="--", label="expected of this recipe")
        if measured:
            axes.plot(*_columns(measured), color=FIRST, marker="o", label="this run")
        axes.legend()
        _label(axes, "tokens read", "bits per byte")

    return draw("heldout", "Held-out bits per byte against tokens read", paint)


def corpus_funnel(kept: Any, dropped: Mapping[str, Any]) -> Markup | None:
    """One bar for the documents that were kept, one per reason for those that were not."""
    reasons = sorted(((name, count) for name, count in _counts(dropped).items() if count), key=lambda pair: -pair[1])
    bars = [("kept", number(kept) or 0.0, FIRST), *((name, count, SECOND) for name, count in reasons[:14])]
    if not any(count for _, count, _ in bars):
        return None

    def paint(axes: Any) -> None:
        _bars(axes, [(_words(name), value, colour, f"{value:,.0f}") for name, value, colour in bars])
        axes.set_xlabel("documents")

    return draw("funnel", "Documents kept, and dropped by reason", paint, height=0.9 + 0.24 * len(bars))


def accuracy_bars(reward: Row) -> Markup | None:
    """The reward model's accuracy with its interval, beside what it is to be compared with."""
    names = (
        ("accuracy", "reward model", FIRST),
        ("bag_of_words", "word counts", SECOND),
        ("length_baseline", "length alone", SECOND),
        ("rater_ceiling", "other raters (ceiling)", THIRD),
    )
    bars = [(label, value, colour) for key, label, colour in names if (value := number(reward.get(key))) is not None]
    if not bars:
        return None

    def paint(axes: Any) -> None:
        _bars(axes, [(label, value, colour, f"{value:.1%}") for label, value, colour in bars])
        interval = interval_of(reward.get("accuracy_ci"))
        if interval and bars[0][0] == "reward model":
            _whisker(axes, bars[0][1], 0, interval)
        axes.axvline(0.5, color=INK, linestyle=":", linewidth=1.0)
        axes.set_xlim(0, 1.15)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_xlabel("held-out pairs put in the right order")

    return draw("accuracy", "Reward accuracy against baselines", paint, height=0.9 + 0.28 * len(bars))


def calibration_curve(bins: Sequence[Row]) -> Markup | None:
    """How often a sentence was truly the better one, against the probability that the reward model gave to it."""
    series = points(bins, "predicted", "observed")
    if not series:
        return None

    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1.0, label="perfect")
        axes.plot(*_columns(series), color=FIRST, marker="o", label="reward model")
        axes.legend()
        _label(axes, "probability that the model gives", "share that was right")

    return draw("calibration", "Calibration of the reward model", paint)


def win_rates(evaluation: Row, names: Mapping[str, str]) -> Markup | None:
    """Win rate of PPO's answers with its interval, per judge; `names`: {key: name to show}."""
    rates, intervals = evaluation.get("win_rate") or {}, evaluation.get("win_rate_ci") or {}
    shown = [(key, name, value) for key, name in names.items() if (value := number(rates.get(key))) is not None]
    if not shown:
        return None

    def paint(axes: Any) -> None:
        _bars(axes, [(name, value, FIRST, f"{value:.1%}") for _, name, value in shown])
        for row, (key, _, value) in enumerate(shown):
            if interval := interval_of(intervals.get(key)):
                _whisker(axes, value, row, interval)
        axes.axvline(0.5, color=INK, linestyle=":", linewidth=1.0)
        axes.set_xlim(0, 1.15)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_xlabel("PPO's answer preferred (dotted: chance)")

    return draw("wins", "Win rate of PPO over SFT, per judge", paint, height=0.9 + 0.3 * len(shown))


def ppo_panel(
    rows: Sequence[Row], name: str, title: str, keys: Sequence[tuple[str, str]], target: float | None = None
) -> Markup | None:
    """One quantity of PPO against the iteration; `keys`: (metric, what to call it); `target` is dotted."""
    lines = [
        (text, series, style)
        for (key, text), style in zip(keys, _STYLES, strict=False)
        if (series := points(rows, "step", key))
    ]
    if not lines:
        return None

    def paint(axes: Any) -> None:
        for text, series, style in lines:
            axes.plot(*_columns(series), label=text, **style)
        if target is not None:
            axes.axhline(target, color=INK, linestyle=":", linewidth=1.0, label="target")
        if len(lines) > 1 or target is not None:
            axes.legend()
        _label(axes, "iteration")

    return draw(name, title, paint, width=3.7, height=2.3)


def reward_against_kl(rows: Sequence[Row], chosen: Any = None) -> Markup | None:
    """Held-out reward by the trained-on model and by the selection one against KL: over-optimisation parts them."""
    proxy, selection = (
        points(rows, "heldout_kl", "heldout_reward"),
        points(rows, "heldout_kl", "heldout_selection_reward"),
    )
    if not proxy and not selection:
        return None
    best = [row for row in rows if chosen is not None and row.get("step") == chosen]

    def paint(axes: Any) -> None:
        if proxy:
            axes.plot(*_columns(proxy), color=FIRST, marker="o", label="reward model that PPO follows")
        if selection:
            axes.plot(
                *_columns(selection), color=SECOND, linestyle="--", marker="s", label="selection model, kept apart"
            )
        if marked := points(best, "heldout_kl", "heldout_selection_reward"):
            axes.plot(
                *_columns(marked), color=INK, marker="o", markersize=10, fillstyle="none", linestyle="", label="chosen"
            )
        axes.legend()
        _label(axes, "KL from the SFT model (nats per answer)", "held-out reward")

    return draw("frontier", "Held-out reward against KL", paint)


_STYLES: tuple[dict[str, Any], ...] = (
    {"color": FIRST},
    {"color": SECOND, "linestyle": "--", "marker": "s"},
    {"color": FOURTH, "linestyle": "-.", "marker": "^"},
)


def _columns(series: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in series], [y for _, y in series]


def _label(axes: Any, x: str, y: str = "") -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: short(value))


def _bars(axes: Any, bars: Sequence[tuple[str, float, str, str]]) -> None:
    """Horizontal bars, the first on top: (name, length, colour, what is written beside it)."""
    places = range(len(bars))
    axes.barh(places, [value for _, value, _, _ in bars], color=[colour for *_, colour, _ in bars], height=0.62)
    axes.set_yticks(places, [name if len(name) <= 34 else name[:33] + "…" for name, *_ in bars])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    largest = max(value for _, value, _, _ in bars)
    for place, (_, value, _, text) in zip(places, bars, strict=True):
        axes.annotate(text, (value, place), xytext=(9, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, largest * 1.22 or 1)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))


def _whisker(axes: Any, value: float, place: int, interval: tuple[float, float]) -> None:
    """An interval on a bar; the text beside the bar moves out of its way."""
    axes.texts[place].xy = (max(value, interval[1]), place)
    below, above = max(0.0, value - interval[0]), max(0.0, interval[1] - value)
    axes.errorbar([value], [place], xerr=[[below], [above]], color=INK, capsize=3, linewidth=1.2)


def _tokens_per_step(rows: Sequence[Row]) -> float | None:
    series = points(rows, "step", "tokens")
    return series[-1][1] / series[-1][0] if series and series[-1][0] > 0 else None


def _counts(values: Any) -> dict[str, float]:
    pairs = values.items() if isinstance(values, Mapping) else ()
    return {str(name): count for name, value in pairs if (count := number(value)) is not None}


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
