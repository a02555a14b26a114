"""Models of others: `models`, `import`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.commands.arguments import PackageCache, Root
from headwater.endings import stoppable


def models(
    task: Annotated[str | None, typer.Option(help="Only models for this: chat, embedding.")] = None,
    language: Annotated[str | None, typer.Option(help="Only models for this language, for example en.")] = None,
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Only models that this much memory holds.")] = None,
    size: Annotated[
        float | None, typer.Option(metavar="M", help="Only models of up to so many million parameters.")
    ] = None,
) -> None:
    """List the published models that `import` can fetch, and which of them fit this machine."""
    import psutil

    from headwater.models import published

    free = psutil.virtual_memory().available / 1e9
    print(published.table(published.choose(task, language, memory, size), free))


def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder in the Hugging Face layout, a .gguf file, or a name.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    cache: PackageCache = None,
) -> None:
    """Bring a model of the world here: a folder, a .gguf file, or a name from `headwater models`."""
    from headwater import exchange

    with stoppable():
        print(exchange.import_model(source, out, cache or exchange.default_cache()))


def export(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A run, RUN/STAGE, or the folder of a model.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder, or the file ending in .gguf, to make.")],
    form: Annotated[
        str | None, typer.Option("--format", metavar="hf|gguf", help="Else by OUT: gguf where it ends in .gguf.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="In a .gguf file, matrices in 16 bits instead of 32.")] = False,
    *,
    root: Root,
) -> None:
    """Write a model for other programs: the Hugging Face layout, or GGUF for llama.cpp and its kin."""
    from headwater import catalogue, exchange

    folder = catalogue.model_folder(source, root)
    with stoppable():
        print(exchange.export_model(folder, out, form, half))
