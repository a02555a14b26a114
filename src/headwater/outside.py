"""What a run is made of that lies outside it: the user's dialogues, a store in which people judge, a reward in a file, the run
before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headwater import rounds, storage
from headwater.catalogue import find_run
from headwater.errors import UserError
from headwater.manifest import read_manifest

if TYPE_CHECKING:
    from headwater.recipe import Recipe
    from headwater.runs import Run


def parents(recipe: Recipe, stage: str, runs: Path) -> dict[str, str | None]:
    """{name: hash} of what a stage reads from outside; None where it is not there (any more)."""
    found: dict[str, str | None] = {}
    if stage == "samples":
        found |= files_of_dialogues(recipe)
    if stage == "feedback" and recipe.feedback.store is not None:
        found |= last_words(recipe.feedback.store)
    if stage == "ppo":
        found |= file_of_reward(recipe)
    for name in rounds.outside(recipe, stage):
        manifest = read_manifest(rounds.folder_of(name, runs))
        found[name] = None if manifest is None else manifest["content_hash"]
    return found


def files_of_dialogues(recipe: Recipe) -> dict[str, str | None]:
    """{"file PATH": hash of its content} of the user's own dialogues, None where it is missing."""
    files = recipe.dialogues.files() if recipe.dialogues is not None else {}
    return {
        f"file {path}": storage.sha256_of(Path(path)) if Path(path).is_file() else None
        for paths in files.values()
        for path in paths
    }


def file_of_reward(recipe: Recipe) -> dict[str, str | None]:
    """{"file PATH": hash of its content} where the reward is a function in a file: another function is another reward."""
    from headwater.rlhf.settings import REWARD

    given = REWARD.fullmatch(recipe.ppo.reward)
    if given is None or not given["path"]:
        return {}
    path = Path(given["path"])
    return {f"file {path}": storage.sha256_of(path) if path.is_file() else None}


def last_words(store: str) -> dict[str, str | None]:
    """{"judgements of STORE": hash of them}, None where there is no such store yet: new judgements make new rewards."""
    from headwater.feedback.store import database
    from headwater.feedback.store.copying import last_word
    from headwater.feedback.store.store import Store

    name = f"judgements of {database.shown(store)}"
    if "://" not in store and not Path(store).is_file():
        return {name: None}
    with Store(store, read_only="://" not in store) as opened:
        return {name: last_word(opened)}


def refuse_missing_files(recipe: Recipe) -> None:
    """Raises UserError where a file that the recipe's dialogues name is not there."""
    if recipe.dialogues is None:
        return
    for key, paths in recipe.dialogues.files().items():
        for path in paths:
            if not Path(path).is_file():
                raise UserError(
                    f"dialogues.{key}: there is no file {path}; give its path as seen from where the command runs."
                )


def refuse_empty_shares(recipe: Recipe, run: Run, stages: Sequence[str]) -> None:
    """Raises UserError where the run's dialogues, which its finished samples stage has dealt to shares, leave one of these
    stages nothing to ask or to learn from: before anything is trained."""
    samples = run.manifest("samples")
    if recipe.dialogues is None or samples is None:
        return
    from headwater.feedback.collecting import RANKED, no_ranking
    from headwater.rlhf.asking import shares_to_ask
    from headwater.tasks.task import no_prompt

    prompts, compared = (samples["metrics"][f"dialogue_{kind}"] for kind in ("prompts", "comparisons"))
    asked: dict[str, tuple[str, ...]] = {"reward": ("train",), "ppo": ("train", "select"), "evaluate": ("prompt",)}
    if recipe.asks:
        asked["feedback"] = shares_to_ask(recipe)
    elif "feedback" in stages and (lacking := [share for share in RANKED if share not in compared]):
        raise no_ranking(recipe, lacking[0])
    for share in (share for stage in stages for share in asked.get(stage, ())):
        if share not in prompts:
            raise no_prompt(share)


def refuse_unjudged(recipe: Recipe, runs: Path) -> None:
    """Raises UserError where it is plain from the recipe that nobody will judge."""
    own, of = recipe.feedback, recipe.round.of
    if of is not None:
        rounds.refuse_unfinished(find_run(of, runs))
        if own.annotator == "people" and own.store is None:
            raise UserError(
                f"Nobody judges what the policy of {of} answers: name a store in which people do, feedback.store=PATH, or, for "
                "a demonstration, feedback.annotator=simulated:lexicon or simulated:judge."
            )
    if recipe.dialogues is not None and not recipe.dialogues.comparisons and not recipe.asks:
        raise UserError(
            "Nobody has compared answers: give dialogues.comparisons, or name a store in which people judge (feedback.store)."
        )
    store = own.store
    if store is not None and "://" not in store and not Path(store).parent.is_dir():
        raise UserError(f"feedback.store: there is no folder {Path(store).parent} to make the store in; make it first.")
