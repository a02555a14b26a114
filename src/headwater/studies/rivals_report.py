"""What the study `rivals` says of its figures: claims, tables, plots."""

from __future__ import annotations

from typing import Any

from headwater.studies.findings import Claim, Findings, Plot, Table
from headwater.studies.rivals_settings import MODELS, RECURRENT, Settings

Results = dict[str, Any]
"""Model → the result of its trial."""


def report(settings: Settings, memory: Results, tokens: Results, timed: Results, speeds: Results) -> Findings:
    """All that the page shows."""
    return Findings(
        "Recurrent networks (RNN, GRU, LSTM), a dilated causal convolutional network (CNN) and a Transformer, of equal "
        "numbers of parameters, with one optimiser: what they remember, how far their gradients reach, how well they "
        "predict text, and how fast they are.",
        claims(settings, memory, tokens),
        [_text_table(settings, tokens, timed), _memory_table(settings, memory)],
        [_memory_plot(settings, memory), *_gradient_plots(tokens), *_speed_plots(speeds)],
        {"memory": memory, "equal_tokens": _bits(tokens), "equal_time": _bits(timed), "speed": speeds},
    )


def claims(settings: Settings, memory: Results, tokens: Results) -> list[Claim]:
    """What was to be shown."""
    longest, shortest = settings.memory.longest, min(settings.memory.lengths)
    within = [memory["Transformer"]["accuracy"][str(n)] for n in settings.memory.lengths if n <= longest]
    falls = [memory[name]["accuracy"][str(shortest)] - memory[name]["accuracy"][str(longest)] for name in RECURRENT]
    reaches = {name: reach(tokens[name]["gradients_before"]) for name in MODELS}
    task = settings.memory.task
    return [
        Claim.at_least(
            f"The Transformer's {task} accuracy at every length trained on ({longest} at most)", min(within), 0.95
        ),
        Claim.at_least(
            f"Each recurrent network's {task} accuracy falls from length {shortest} to {longest}: the least fall",
            min(falls),
            0.1,
        ),
        Claim.at_most(
            "Share of the gradient norm left far back in the vanilla RNN, at initialisation", reaches["RNN"], 1e-3
        ),
        Claim.at_least("The same in the Transformer", reaches["Transformer"], 1e-2),
    ]


def reach(norms: list[float]) -> float:
    """Mean gradient norm in the far half of the distances over that in the nearest sixteenth."""
    near, far = norms[: max(1, len(norms) // 16)], norms[len(norms) // 2 :]
    return (sum(far) / len(far)) / max(sum(near) / len(near), 1e-30)


def _bits(figures: Results) -> dict[str, float]:
    return {name: result["bits_per_byte"] for name, result in figures.items()}


def _text_table(settings: Settings, tokens: Results, timed: Results) -> Table:
    per_step = settings.text.rows * settings.text.context
    rows = [
        [
            name,
            tokens[name]["parameters"],
            tokens[name]["layers"],
            tokens[name]["d_model"],
            tokens[name]["bits_per_byte"],
            timed[name]["bits_per_byte"],
            timed[name]["steps"] * per_step,
        ]
        for name in MODELS
    ]
    seconds = f"{settings.text.seconds:g} s"
    columns = [
        "Model",
        "parameters",
        "layers",
        "width",
        "bits per byte",
        f"… after {seconds}",
        f"bytes read in {seconds}",
    ]
    read = f"{settings.text.steps * per_step:,} bytes"
    note = f"Held-out text. After {read} each: {_order(tokens)}. After {seconds} each: {_order(timed)}."
    return Table("Bits per byte at equal parameters: after equal reading and equal time", columns, rows, note)


def _memory_table(settings: Settings, memory: Results) -> Table:
    lengths = [str(length) for length in settings.memory.lengths]
    rows = [[name, *(memory[name]["accuracy"][length] for length in lengths)] for name in MODELS]
    note = f"Trained on lengths up to {settings.memory.longest}; {1 / settings.memory.symbols:.2g} is chance."
    return Table(f"Accuracy of {settings.memory.task} by length", ["Model", *lengths], rows, note)


def _memory_plot(settings: Settings, memory: Results) -> Plot:
    lines = {name: [(float(n), a) for n, a in memory[name]["accuracy"].items()] for name in MODELS}
    note = "Held-out sequences; dotted: the longest that was trained on."
    title = f"Accuracy of {settings.memory.task} against length"
    return Plot(title, "symbols to remember", "accuracy", lines, note, mark=float(settings.memory.longest))


def _gradient_plots(tokens: Results) -> list[Plot]:
    note = (
        "Norm of the gradient of the last token's loss at the embedding so many tokens before, mean over held-out text."
    )
    return [
        Plot(
            f"How far gradients reach, {when}",
            "tokens back",
            "gradient norm",
            {name: [(float(t), norm) for t, norm in enumerate(tokens[name][key]) if t] for name in MODELS},
            note,
            log_x=True,
            log_y=True,
        )
        for when, key in (("at initialisation", "gradients_before"), ("after training", "gradients_after"))
    ]


def _speed_plots(speeds: Results) -> list[Plot]:
    return [
        Plot(
            f"Speed of {kind} against length",
            "tokens in a row" if kind == "training" else "tokens before the next one",
            "tokens per second",
            {name: [(float(n), speed) for n, speed in speeds[name][kind].items()] for name in MODELS},
            log_x=True,
            log_y=True,
        )
        for kind in ("training", "decoding")
    ]


def _order(figures: Results) -> str:
    """Who needs how many bits per byte, the fewest first."""
    ranked = sorted(_bits(figures).items(), key=lambda item: item[1])
    return ", ".join(f"{name} {bits:.2f}" for name, bits in ranked)
