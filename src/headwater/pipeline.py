"""The order of the stages: what is finished is kept, what was interrupted goes on, what is damaged is made again."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import outside, rounds, storage
from headwater.errors import UserError
from headwater.manifest import Identity
from headwater.progress import duration, say
from headwater.runs import EXPECTED_CURVE, Run, StageFunction
from headwater.steps import STAGES, STEPS, Step, ancestors, step_of

if TYPE_CHECKING:
    from headwater.recipe import Recipe


ROUND = rounds.OWN
"""Stages that a round makes itself."""
BASED = ("tokenizer", "pretrain")
"""Stages that take something from the recipe's base."""

PUBLISHED = ("report.html", "summary.json")
"""Files of the report stage that also stand in the run's folder, where people look for them."""


def function_of(stage: str) -> StageFunction:
    """The function of a stage; only now is its module imported, and with it what it needs."""
    function: StageFunction = importlib.import_module(f"headwater.stages.{stage}").run
    return function


def run_all(recipe: Recipe, run: Run, until: str = "report", reuse: Run | None = None) -> None:
    """Every stage up to `until` that is not finished yet, in order. The run must be locked (`with run:`).

    `reuse`: finished stages are taken over from that run where settings, seed and parents are the same.
    Raises UserError where the run's folder belongs to another recipe; nothing has been changed then.
    """
    steps = [step.of(recipe) for step in STEPS[: STAGES.index(step_of(until).name) + 1]]
    _refuse_what_cannot_answer(recipe, [step.name for step in steps])
    _refuse_other_recipe(recipe, run, steps)
    _refuse_what_is_not_there(recipe, run, [step.name for step in steps if not run.is_finished(step.name)])
    write_recipe(recipe, run)
    for step in steps:
        identity = _identity(recipe, run, step)
        if not _is_done(run, step, identity):
            own = step.name == "report" or (recipe.round.of is not None and step.name in ROUND)
            if reuse is None or own or not _reused(run, step, identity, reuse):
                _make(recipe, run, step, identity)
        if step.name == "samples":
            outside.refuse_empty_shares(recipe, run, [step.name for step in steps])
    publish(run)


def run_one(recipe: Recipe, run: Run, stage: str) -> None:
    """One stage, whose parents must be finished. The run must be locked."""
    step = step_of(stage).of(recipe)
    _refuse_what_cannot_answer(recipe, [stage])
    _refuse_other_recipe(recipe, run, [step_of(name).of(recipe) for name in [*ancestors(step), stage]])
    for parent in step.parents:
        if not run.is_finished(parent):
            raise UserError(
                f"The stage `{stage}` needs `{parent}`, which the run {run.name} has not finished: "
                "`headwater run` with the same recipe makes every stage that is missing."
            )
        if damaged := run.damage(parent):
            raise UserError(
                f"{run.stage(parent) / damaged[0]} is damaged: `headwater run` with the same recipe makes it again."
            )
    if not run.is_finished(stage):
        _refuse_what_is_not_there(recipe, run, [stage])
    write_recipe(recipe, run)
    identity = _identity(recipe, run, step)
    if _is_done(run, step, identity):
        say(f"{stage}: finished already, nothing to do")
    else:
        _make(recipe, run, step, identity)
    publish(run)


def write_recipe(recipe: Recipe, run: Run) -> None:
    """Writes the resolved recipe into the run's folder, unless it stands there."""
    import yaml

    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path = run.folder / "recipe.yaml"
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        storage.write_atomically(path, text)


def keep_expected_curve(recipe: Path, run: Run) -> None:
    """Copies the curve to expect, RECIPE.curve.json beside RECIPE.yaml, into the run's folder for the report."""
    curve = recipe.with_suffix(".curve.json")
    if curve.is_file():
        content, kept = curve.read_bytes(), run.folder / EXPECTED_CURVE
        if not kept.is_file() or kept.read_bytes() != content:
            storage.write_atomically(kept, content)


def publish(run: Run) -> None:
    """Copies the finished report to where people look for it, unless it stands there."""
    for name in PUBLISHED:
        source, target = run.stage("report") / name, run.folder / name
        if source.is_file():
            content = source.read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                storage.write_atomically(target, content)


def plan(run: Run, settings: Iterable[tuple[str, Any, str]]) -> Iterator[str]:
    """Lines that tell the resolved (key, value, origin) of every setting, and which stages are finished already."""
    import yaml

    for key, value, origin in settings:
        text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
        yield f"{key} = {text.strip().removesuffix('...').strip()}  ({origin})"
    finished = [name for name in STAGES if run.is_finished(name)]
    missing = [name for name in STAGES if name not in finished]
    yield f"folder: {run.folder}"
    yield f"finished: {' '.join(finished) or 'nothing'}"
    yield f"to do: {' '.join(missing) or 'nothing'}"


def closing(run: Run, commands: Mapping[str, str]) -> str:
    """What to look at next: three answers before and after PPO, the report, and commands by what they do."""
    lines = []
    answers = run.stage("evaluate") / "answers.jsonl"
    if answers.is_file():
        rows = list(storage.read_json_lines(answers))
        lines.append(f"Three of {len(rows):,} answers, before and after PPO:")
        for row in rows[:: max(1, len(rows) // 3)][:3]:
            lines += [f"  {row['prompt']} …", f"    before: {row['before']}", f"    after:  {row['after']}"]
    report = run.folder / "report.html"
    if report.is_file():
        lines.append(f"Report: {report}")
    if any((run.stage(stage) / "model").is_dir() for stage in STAGES):
        lines += [f"{does}: {command}" for does, command in commands.items()]
    return "\n".join(lines) or f"Finished: {run.folder}"


def first_difference(stored: Any, wanted: Any, prefix: str = "") -> tuple[str, Any, Any] | None:
    """(dotted key, stored value, wanted value) of the first setting that differs; a missing one is "absent"."""
    if isinstance(stored, list) and isinstance(wanted, list):
        stored, wanted = dict(enumerate(stored)), dict(enumerate(wanted))
    if not (isinstance(stored, dict) and isinstance(wanted, dict)):
        return None if stored == wanted else (prefix, stored, wanted)
    for key in [*wanted, *(key for key in stored if key not in wanted)]:
        name = f"{prefix}.{key}" if prefix else str(key)
        found = first_difference(stored.get(key, "absent"), wanted.get(key, "absent"), name)
        if found is not None:
            return found
    return None


def _identity(recipe: Recipe, run: Run, step: Step) -> Identity:
    """What the recipe and the finished parents make of a stage; unfinished parents have an empty hash."""
    parents = {parent: (run.manifest(parent) or {}).get("content_hash", "") for parent in step.parents}
    stored: dict[str, str] = (run.manifest(step.name) or {}).get("parents", {})
    if step.name == "corpus":
        parents |= folders_of_texts(recipe)
    # What is not a stage of this run may be moved away: a finished stage that was made from it stays good.
    found: dict[str, str | None] = {}
    if step.name in BASED and recipe.base:
        found[f"base {recipe.base}"] = folder_of_base(recipe)
    found |= outside.parents(recipe, step.name, run.folder.parent)
    parents |= {name: value for name in found if (value := found[name] or stored.get(name)) is not None}
    return Identity.of(recipe, step.name, parents, step.reads)


def folders_of_texts(recipe: Recipe) -> dict[str, str]:
    """{"folder PATH": hash of its files' names and contents} of the user's own texts: a changed text makes a new corpus."""
    from headwater.corpus.documents import fingerprint

    folders = [source.folder for source in recipe.corpus.sources if source.folder is not None]
    return {f"folder {folder}": fingerprint(Path(folder)) for folder in folders}


def folder_of_base(recipe: Recipe) -> str | None:
    """A hash of the user's own model that the recipe starts from; None where there is no such path: published ones are
    pinned.
    """
    from headwater.corpus.documents import fingerprint

    path = Path(recipe.base or "")
    if not recipe.base or not path.exists():
        return None
    return fingerprint(path) if path.is_dir() else storage.sha256_of(path)


def _refuse_what_cannot_answer(recipe: Recipe, stages: Sequence[str]) -> None:
    """Raises UserError where a stage after pretraining is asked for and the model does not learn to write on.

    An encoder-decoder can be improved by PPO, but not here: these stages take decoders (docs/rlhf.md).
    """
    later = [stage for stage in stages if stage in STAGES[STAGES.index("pretrain") + 1 :]]
    if later and recipe.pretrain.objective != "causal":
        raise UserError(
            f"The stage `{later[0]}` needs a model that learns to write, but pretrain.objective is "
            f"{recipe.pretrain.objective}: end the run with `until: pretrain` in the recipe, or --until pretrain."
        )


def _refuse_what_is_not_there(recipe: Recipe, run: Run, stages: Sequence[str]) -> None:
    """Raises UserError where one of these stages, which are still to be made, needs a base, a file, a run or a reward that is
    nowhere: now, not after hours of other stages."""
    from headwater.models.published import published
    from headwater.rlhf.settings import REWARD

    base, reward = recipe.base, REWARD.fullmatch(recipe.ppo.reward)
    if base and {*BASED} & {*stages} and published(base) is None and not Path(base).exists():
        raise UserError(
            f"`base` is {base}, which is neither a folder, a .gguf file nor a name of `headwater models`: check it."
        )
    if "samples" in stages:
        outside.refuse_missing_files(recipe)
    if "feedback" in stages:
        outside.refuse_unjudged(recipe, run.folder.parent)
    if "ppo" in stages and reward and reward["path"] and not Path(reward["path"]).is_file():
        raise UserError(
            f"ppo.reward: there is no file {reward['path']}; give its path as seen from where the command runs."
        )


def _refuse_other_recipe(recipe: Recipe, run: Run, steps: Sequence[Step]) -> None:
    """Raises UserError where a finished or half-made stage has other settings than the recipe."""
    for step in steps:
        wanted = Identity.of(recipe, step.name, {}, step.reads)
        for folder, stored in _made_as(run, step):
            difference = _difference(step.name, stored, wanted)
            if difference is not None:
                key, before, now = difference
                raise UserError(
                    f"The run folder {run.folder} is of another recipe: its stage `{step.name}` has "
                    f"`{key}` = {before!r}, this recipe {now!r}; give this one a name of its own with "
                    f"--run NAME, or delete {folder}."
                )


def _made_as(run: Run, step: Step) -> Iterator[tuple[Path, Identity]]:
    manifest = run.manifest(step.name)
    if manifest is not None:
        yield run.stage(step.name), Identity.stored(step.name, manifest, step.reads)
    started = run.started_as(step.name, step.reads)
    if started is not None and any(run.work(step.name).glob("**/checkpoints/[0-9]*")):  # else there is no work to lose
        yield run.work(step.name), started


def _difference(stage: str, stored: Identity, wanted: Identity) -> tuple[str, Any, Any] | None:
    """The first setting, by its whole name, that two identities of a stage differ in; parents are not compared."""
    first = {stage: {**stored.settings, "seed": stored.seed}, **stored.other_settings}
    second = {stage: {**wanted.settings, "seed": wanted.seed}, **wanted.other_settings}
    return first_difference(first, second)


def _is_done(run: Run, step: Step, identity: Identity) -> bool:
    """Whether a finished stage can stay; one that is damaged or outdated is set aside."""
    if not run.is_finished(step.name):
        return False
    if damaged := run.damage(step.name):
        others = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        aside = run.set_aside(step.name, "damaged")
        say(f"{step.name}: damaged ({damaged[0]}{others}); set aside as {aside}, made again")
        return False
    manifest = run.manifest(step.name)
    if manifest is not None and Identity.stored(step.name, manifest, step.reads) == identity:
        return True
    aside = run.set_aside(step.name, "outdated")
    say(f"{step.name}: what it was made from has changed; set aside as {aside}, made again")
    return False


def _reused(run: Run, step: Step, identity: Identity, other: Run) -> bool:
    """Takes a stage over from another run if it is the same there; says why where it is not."""
    manifest = other.manifest(step.name)
    if manifest is None:
        say(f"{step.name}: not finished in {other.name}")
        return False
    stored = Identity.stored(step.name, manifest, step.reads)
    if stored != identity:
        key, before, now = _difference(step.name, stored, identity) or ("parents", "others", "these")
        say(f"{step.name}: not taken from {other.name}, where `{key}` is {before!r}, here {now!r}")
        return False
    run.take(step.name, other)
    say(f"{step.name}: taken from {other.name}")
    return True


def _make(recipe: Recipe, run: Run, step: Step, identity: Identity) -> None:
    started = run.started_as(step.name, step.reads)
    if started is not None and started != identity:
        say(f"{step.name}: what it is made from has changed since it was interrupted; it starts again")
        started = None
    say(f"{step.name}: {'goes on' if started and step.goes_on else step.summary}")
    manifest = run.make(step.name, recipe, identity, function_of(step.name), step.goes_on)
    say(f"{step.name}: finished in {duration(manifest['seconds'])}")
