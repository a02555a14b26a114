"""Talking to models: `chat`, `serve`, `loop`."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater.commands.arguments import Host, ModelName, Overrides, Port, RecipePath, Root, RunName, Token, with_run


def chat(
    model: ModelName,
    prompt: Annotated[str | None, typer.Option(help="Answer this and end; without it, a dialogue.")] = None,
    stage: Annotated[str | None, typer.Option(help="The stage whose model is meant; else ppo, sft, pretrain.")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest token.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.01, help="Lower: safer; higher: more varied.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only so many of the likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Only the likeliest, of this share.")] = None,
    min_p: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Only so likely, against the likeliest.")
    ] = None,
    repetition_penalty: Annotated[float, typer.Option(min=0.01, help="Above 1: less of what was said.")] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="End before this text; repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same answers.")] = 1,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help='What an imported model is told first; "": its own default.')
    ] = None,
    *,
    root: Root,
) -> None:
    """Talk to a model in the terminal."""
    from headwater import catalogue

    folder = catalogue.model_folder(model, root, stage)
    from headwater.chat import SYSTEM
    from headwater.chat import chat as talk
    from headwater.models.sampling import Sampling

    sampling = Sampling(
        max_new_tokens,
        0.0 if greedy else temperature,
        top_k,
        top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop_strings=tuple(stop or ()),
    )
    talk(folder, sampling, prompt, seed, SYSTEM if system is None else system)


def serve(
    names: Annotated[
        list[str],
        typer.Argument(metavar="MODEL…", help="Runs, RUN/STAGE, or folders of models; a run: its last model."),
    ],
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    slots: Annotated[int, typer.Option(min=1, max=256, help="Answers that a model writes side by side.")] = 16,
    context: Annotated[int, typer.Option(min=2, help="Tokens of a prompt with its answer, at most.")] = 2048,
    queue: Annotated[int, typer.Option(min=16, help="Answers that may wait; beyond, clients are told to.")] = 64,
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|fp32|bf16", help="Of models that write; auto: bf16 where the processor multiplies it."
        ),
    ] = "auto",
    store: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Where judgements go: a file or postgresql://…; else judgements.db in the run's folder.",
        ),
    ] = None,
    *,
    root: Root,
) -> None:
    """Serve models over HTTP: in the form of OpenAI's API, and as pages to chat, to judge and to look at runs."""

    check_serving()
    from headwater.serving.engine import Limits
    from headwater.serving.server import serve as answer_clients

    limits = Limits(slots=slots, capacity=context, waiting=queue)
    answer_clients(names, root, host, port, token, limits, precision, store)


def loop(
    recipe: RecipePath,
    overrides: Overrides = None,
    judgements: Annotated[
        int, typer.Option(min=1, help="Tasks that are judged before a new policy is trained on them.")
    ] = 40,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    name: RunName = None,
    *,
    root: Root,
) -> None:
    """Serve a policy, have its answers judged, train the next one on that, and offer it: you accept it or roll back."""

    check_serving()
    from headwater.loop.service import run_loop

    run_loop(recipe, with_run(overrides, name), root, judgements, host, port, token)


def check_serving() -> None:
    """Names the extra where what the server needs is not there."""
    from importlib.util import find_spec

    from headwater.errors import UserError

    needed = ("fastapi", "uvicorn", "python_multipart")
    if missing := [name for name in needed if find_spec(name) is None]:
        raise UserError(f"Serving needs {missing[0]}: `pip install 'headwater[serve]'` brings all that it takes.")
