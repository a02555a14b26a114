"""What the study `long` says of its figures: claims, tables, plots."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from headwater.studies.findings import Claim, Findings, Plot, Table
from headwater.studies.long_settings import LOCAL, WAYS, WHOLE, Settings

Result = Mapping[str, Any]
NAMES = {"none": "as it is", "linear": "linear", "ntk": "NTK-aware", "yarn": "YaRN"}
GROWTH = 2.2
"""Twice the length may need so many times the memory."""
RETRIEVED = 0.9
"""Share of the passkeys that an extended model must find."""


def report(
    settings: Settings,
    trained: Mapping[str, Result],
    before: Mapping[str, Result],
    after: Result,
    steps: Mapping[tuple[str, bool], Result],
    windows: Mapping[str, Result],
) -> Findings:
    """All that the page shows.

    before: way → how the model that was trained on short rows reads; after: the same of the extended one. steps:
    (precision, checkpointing) → figures of a step. windows: kind of attention → length → figures of a step.
    """
    short, longer = settings.short, settings.extension
    lead = (
        f"A byte-level decoder of {trained['short']['parameters']:,} parameters is trained for {short.steps:,} steps "
        f"({trained['short']['tokens']:,} tokens) at {short.context:,} tokens, on speeches in some of whose rows numbers "
        f"are hidden and asked for; then its rotary positions are stretched to {longer.context:,} tokens, and it is "
        f"trained for {longer.steps} steps ({trained['extended']['tokens']:,} tokens) there. And what do long rows cost?"
    )
    return Findings(
        lead,
        claims(settings, before, after, steps, windows),
        [
            _bits_table(settings, before, after),
            _needles_by_length(settings, before, after),
            _needles(settings, "before, stretched by YaRN", before["yarn"]),
            _needles(settings, f"after {longer.steps} steps", after),
            _steps_table(settings, steps),
            _windows_table(settings, windows),
        ],
        [
            _position_plot(settings, before, after),
            Plot(
                "Training loss",
                "step",
                "nats per byte",
                {
                    f"at {short.context}": trained["short"]["losses"],
                    f"at {longer.context}": trained["extended"]["losses"],
                },
            ),
            *_window_plots(windows),
        ],
        {
            "bits_per_byte": {NAMES[way]: before[way]["bits"] for way in WAYS} | {"extended": after["bits"]},
            "steps": {_named(*key): figures for key, figures in steps.items()},
            "memory": windows,
        },
    )


def claims(
    settings: Settings,
    before: Mapping[str, Result],
    after: Result,
    steps: Mapping[tuple[str, bool], Result],
    windows: Mapping[str, Result],
) -> list[Claim]:
    """What was to be shown."""
    short, longest = str(settings.short.context), str(settings.extension.context)
    limit, length = settings.step.limit_gb, settings.step.length
    perplexities = {width: 2.0**bits for width, bits in after["bits"].items()}
    found = list(after["passkeys"][longest].values())
    growth = [later / max(1.0, earlier) for earlier, later in pairwise(activations(windows[LOCAL]).values())]
    return [
        Claim.at_most(
            f"Perplexity per byte after the extension, read at {longest}, is not worse than read at {short}",
            perplexities[longest],
            perplexities[short],
        ),
        Claim.at_most(
            f"Nor worse than that of the model before the extension, read at {short}",
            perplexities[longest],
            2.0 ** before["none"]["bits"][short],
        ),
        Claim.at_least(f"Passkeys found at {longest} tokens after the extension", sum(found) / len(found), RETRIEVED),
        *(
            Claim.at_most(
                f"A training step of {length:,} tokens, {_named(*key)}, fits into {limit} GB: its peak in GB",
                _or_infinite(figures["peak_mb"]) / 1000,
                limit,
            )
            for key, figures in steps.items()
        ),
        Claim.at_most(
            f"Twice the length needs at most {GROWTH:g} times the memory with a sliding window: the largest factor",
            max(growth),
            GROWTH,
        ),
    ]


def activations(by_length: Result) -> dict[str, float]:
    """Length → MB that a step needs beyond weights, gradients and optimiser."""
    return {
        length: _or_infinite(figures["peak_mb"]) - _or_infinite(figures["before_mb"], 0.0)
        for length, figures in by_length.items()
    }


def _or_infinite(value: float | None, otherwise: float = float("inf")) -> float:
    """A step that the system killed for want of memory has no figures."""
    return otherwise if value is None else value


def _named(precision: str, checkpointing: bool) -> str:
    return f"{precision}, {'gradient checkpointing' if checkpointing else 'all activations kept'}"


def _bits_table(settings: Settings, before: Mapping[str, Result], after: Result) -> Table:
    widths = [str(width) for width in settings.reading.widths]
    rows = [[NAMES[way], *(before[way]["bits"][width] for width in widths)] for way in WAYS]
    trained = f"{NAMES[settings.extension.method]}, after {settings.extension.steps} steps"
    rows.append([trained, *(after["bits"][width] for width in widths)])
    note = (
        f"The same {after['tokens']:,} held-out bytes, read so many tokens at once; each has at least half as many before "
        "it. All but the last line: before any training at the long context."
    )
    return Table("Bits per byte against what is read at once", ["positions", *widths], rows, note)


def _needles_by_length(settings: Settings, before: Mapping[str, Result], after: Result) -> Table:
    lengths = [str(length) for length in settings.reading.lengths]
    rows: list[list[str | float]] = [[NAMES[way], *_means(before[way], lengths)] for way in WAYS]
    rows.append(
        [f"{NAMES[settings.extension.method]}, after {settings.extension.steps} steps", *_means(after, lengths)]
    )
    note = "Share of the five-digit keys that are given whole, all depths together; the keys are held out."
    return Table("Passkeys found, by length", ["positions", *lengths], rows, note)


def _means(read: Result, lengths: list[str]) -> list[float]:
    found = [list(read["passkeys"][length].values()) for length in lengths]
    return [sum(shares) / len(shares) for shares in found]


def _needles(settings: Settings, when: str, read: Result) -> Table:
    lengths = [str(length) for length in settings.reading.lengths]
    depths = [str(depth) for depth in settings.reading.depths]
    rows = [[f"{float(depth):.0%}", *(read["passkeys"][length][depth] for length in lengths)] for depth in depths]
    note = (
        f"Share of {settings.reading.examples} each. Depth 0%: the key stands first, 100%: right before the question."
    )
    return Table(f"Passkeys found by depth and length, {when}", ["depth", *lengths], rows, note)


def _steps_table(settings: Settings, steps: Mapping[tuple[str, bool], Result]) -> Table:
    rows = [
        [
            _named(*key),
            figures["parameters"],
            figures["before_mb"],
            figures["peak_mb"],
            figures["seconds"],
            figures["processor_seconds"],
        ]
        for key, figures in steps.items()
    ]
    note = (
        "Forward, backward and AdamW, each in a process of its own; memory is resident, in MB of 10⁶ bytes. “Before” are "
        "weights, gradients and moments, and the program itself. A dash: the system killed it for want of memory."
    )
    columns = ["step", "parameters", "before, MB", "peak, MB", "seconds", "processor seconds"]
    return Table(f"One training step of {settings.step.length:,} tokens", columns, rows, note)


def _windows_table(settings: Settings, windows: Mapping[str, Result]) -> Table:
    memory = {kind: activations(windows[kind]) for kind in (LOCAL, WHOLE)}
    rows = [
        [
            length,
            memory[LOCAL][length],
            memory[WHOLE][length],
            windows[LOCAL][length]["processor_seconds"],
            windows[WHOLE][length]["processor_seconds"],
        ]
        for length in windows[LOCAL]
    ]
    note = (
        f"A window of {settings.window.window} tokens; fp32, one row, no checkpointing; freed memory is given back. Whole "
        "rows are attended to block by block too, so no table of all pairs of tokens is ever held: their time grows with "
        "the square, not their memory."
    )
    columns = ["tokens", "window, MB", "whole row, MB", "window, s", "whole row, s"]
    return Table("Memory of activations and processor time of one training step", columns, rows, note)


def _position_plot(settings: Settings, before: Mapping[str, Result], after: Result) -> Plot:
    lines = {f"{NAMES[way]}, before": before[way]["by_position"] for way in WAYS} | {"extended": after["by_position"]}
    note = "Held-out speeches, read as a whole; dotted: the context that the model was trained at first."
    title = "Bits per byte against position"
    return Plot(title, "position", "bits per byte", lines, note, mark=float(settings.short.context))


def _window_plots(windows: Mapping[str, Result]) -> list[Plot]:
    return [
        Plot(
            "Memory of activations against length",
            "tokens",
            "MB",
            {kind: [(float(n), mb) for n, mb in activations(windows[kind]).items()] for kind in (LOCAL, WHOLE)},
            log_x=True,
            log_y=True,
        ),
        Plot(
            "Time of a training step against length",
            "tokens",
            "processor seconds",
            {
                kind: [(float(n), f["processor_seconds"]) for n, f in windows[kind].items() if f["peak_mb"] is not None]
                for kind in (LOCAL, WHOLE)
            },
            log_x=True,
            log_y=True,
        ),
    ]
