"""What a model, or this machine, is like: `diagnose`, `probe`, `safety`, `consistency`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.commands.arguments import ModelName, Overrides, PackageCache, Root
from headwater.endings import stoppable


def diagnose(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run, RUN/STAGE, a model's folder, or a recipe: its fresh model.")
    ],
    overrides: Overrides = None,
    text: Annotated[str | None, typer.Option(help="The text that the model reads; else made-up tokens.")] = None,
    *,
    root: Root,
) -> None:
    """Show the size of activations and gradients in each layer of a model, fresh or trained."""
    from headwater import catalogue

    if model.endswith((".yaml", ".yml")):
        from headwater.inspection.diagnose import diagnose_fresh

        found = diagnose_fresh(Path(model), overrides or [])
    else:
        folder = catalogue.model_folder(model, root)
        from headwater.inspection.diagnose import diagnose_folder

        found = diagnose_folder(folder, text)
    print(f"{found.table()}\n{found.verdict}")


def probe(
    model: ModelName,
    reviews: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rated sentences (.jsonl); else those of the model's run.")
    ] = None,
    clear: Annotated[
        float, typer.Option(metavar="RATING", min=0, help="Least mean rating, up or down, that is praise or blame.")
    ] = 0.0,
    *,
    root: Root,
) -> None:
    """Tell how well a linear probe on a model's hidden states knows praise from blame, trained and untrained."""
    from headwater import catalogue

    folder = catalogue.model_folder(model, root)
    from headwater.inspection.probe import probe as measure

    print(measure(folder, reviews, clear))


def safety(
    model: ModelName,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 96,
    result: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the shares and all answers here, too.")
    ] = None,
    cache: PackageCache = None,
    *,
    root: Root,
) -> None:
    """Tell how often a model refuses harmful and harmless questions, is rude, or names personal data."""
    from headwater import catalogue

    folder = catalogue.model_folder(model, root)
    from headwater.exchange import default_cache
    from headwater.inspection.safety import safety as measure

    with stoppable():
        print(measure(folder, cache or default_cache(), max_new_tokens, result))


def consistency(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run: its reward model; or RUN/STAGE.")],
    typos: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of words that get a typing mistake.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed makes the same mistakes.")] = 1,
    sentences: Annotated[int, typer.Option(min=2, help="Held-out sentences, or judged answers, at most.")] = 400,
    *,
    root: Root,
) -> None:
    """Tell whether a model's verdict on answers survives typing mistakes, letter case and punctuation."""
    from headwater import catalogue

    place, stage = catalogue.find_stage(name, root)
    folder = catalogue.model_folder(name, root, stage or "reward")
    from headwater.inspection.consistency import consistency as measure

    print(measure(place, folder, typos, seed, sentences))


def doctor() -> None:
    """Tell what this machine can do."""
    from headwater.inspection.doctor import examine

    for line in examine():
        print(line, flush=True)
