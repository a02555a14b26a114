"""Stages in order: skipped when done, resumed when interrupted, made again when damaged. The stages are tiny fakes."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import headwater.stages
from headwater import pipeline
from headwater.catalogue import find_run, find_stage, model_folder, table
from headwater.errors import UserError
from headwater.lineage import lineage
from headwater.manifest import write_manifest
from headwater.recipe import Recipe, validate
from headwater.runs import EXPECTED_CURVE, Run, Stage
from headwater.steps import STAGES, STEPS, ancestors, step_of

MACHINE = ("seed", "threads", "tensorboard")
"""Settings of the whole recipe: a stage's identity holds its seed; the others change no result."""
FASTER = {"learning_rate": 2e-4, "epsilon": 1e-5}


def make_recipe(**sections: Any) -> Recipe:
    return validate({"run": "r", "corpus": {"sources": [{"samples": "reviews"}]}, **sections}, "test")


class Fakes:
    """Every stage writes a model that depends on its settings, its seed and its parents' models, and notes its name."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def run(self, stage: Stage) -> dict[str, Any]:
        self.calls.append(stage.name)
        parents = [(stage.parent(name) / "model" / "weights").read_text() for name in sorted(stage.parents)]
        content = json.dumps([stage.name, stage.settings.model_dump(mode="json"), stage.seed, parents])
        (stage.folder / "model").mkdir()
        (stage.folder / "model" / "config.json").write_text("{}")
        (stage.folder / "model" / "weights").write_text(hashlib.sha256(content.encode()).hexdigest())
        (stage.folder / "metrics.jsonl").write_text(f"{time.time_ns()}\n")
        if stage.name == "evaluate":
            rows = [{"prompt": f"p{n}", "before": f"b{n}", "after": f"a{n}"} for n in range(9)]
            (stage.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if stage.name == "report":
            for name in pipeline.PUBLISHED:
                (stage.folder / name).write_text(f"{stage.elapsed()} {time.time_ns()}")
        return {"documents_kept": 1234, "loss": 0.123456}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    fakes = Fakes()
    monkeypatch.setattr(pipeline, "function_of", lambda _: fakes.run)
    return fakes


def go(root: Path, recipe: Recipe, name: str = "r", **options: Any) -> Run:
    with Run(root, name) as run:
        pipeline.run_all(recipe, run, **options)
    return run


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """{path: (time of change, content)} of all files, apart from the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def weights(run: Run, stage: str) -> str:
    return (run.stage(stage) / "model" / "weights").read_text()


def test_every_parent_comes_before_its_child() -> None:
    for number, step in enumerate(STEPS):
        assert set(step.parents) <= set(STAGES[:number])
    assert ancestors(step_of("reward")) == ["samples", "corpus", "tokenizer", "pretrain", "sft", "feedback"]
    others = {"run", "until", "base", "dialogues", "round", *MACHINE}
    assert set(STAGES) == set(Recipe.model_fields) - others


def test_all_stages_run_once_in_order_and_a_rerun_changes_no_file(tmp_path: Path, fakes: Fakes) -> None:
    run = go(tmp_path, make_recipe())
    assert fakes.calls == list(STAGES)
    before = everything(run.folder)
    assert str(run.folder / "report.html") in before
    assert str(run.folder / "recipe.yaml") in before
    go(tmp_path, make_recipe())
    assert fakes.calls == list(STAGES)
    assert everything(run.folder) == before


def test_a_deleted_report_comes_back_as_it_was(tmp_path: Path, fakes: Fakes) -> None:
    run = go(tmp_path, make_recipe())
    before = (run.folder / "summary.json").read_bytes()
    (run.folder / "summary.json").unlink()
    go(tmp_path, make_recipe())
    assert (run.folder / "summary.json").read_bytes() == before
    assert len(fakes.calls) == len(STAGES)


def test_until_stops_there_and_the_next_command_goes_on(tmp_path: Path, fakes: Fakes) -> None:
    go(tmp_path, make_recipe(), until="sft")
    assert fakes.calls == list(STAGES[:5])
    go(tmp_path, make_recipe())
    assert fakes.calls == list(STAGES)
    with pytest.raises(UserError, match=r"`pretrian` is not a stage; did you mean `pretrain`\?"):
        go(tmp_path, make_recipe(), until="pretrian")


@pytest.mark.parametrize("name", ["model/weights", "manifest.json", "metrics.jsonl"])
def test_a_flipped_bit_is_found_and_the_stage_made_again(
    tmp_path: Path, fakes: Fakes, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run = go(tmp_path, make_recipe())
    before = weights(run, "sft")
    path = run.stage("sft") / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    fakes.calls.clear()
    go(tmp_path, make_recipe())
    assert fakes.calls == ["sft"]
    assert weights(run, "sft") == before
    aside = run.folder / "sft.damaged-1"
    assert (aside / name).read_bytes() == bytes(content)
    assert f"sft: damaged ({name})" in capfd.readouterr().err


def test_children_of_a_stage_that_came_out_different_are_made_again(tmp_path: Path, fakes: Fakes) -> None:
    run = go(tmp_path, make_recipe(), until="feedback")
    (run.stage("corpus") / "model" / "weights").write_text("damaged")
    fakes.calls.clear()
    real = fakes.run

    def otherwise(stage: Stage) -> dict[str, Any]:
        metrics = real(stage)
        if stage.name == "corpus":
            (stage.folder / "model" / "weights").write_text("another")
        return metrics

    fakes.run = otherwise  # type: ignore[method-assign]
    go(tmp_path, make_recipe(), until="feedback")
    assert fakes.calls == ["corpus", "tokenizer", "pretrain", "sft"]
    assert (run.folder / "sft.outdated-1").is_dir()
    assert not (run.folder / "feedback.outdated-1").exists()


@pytest.mark.parametrize(
    ("sections", "key", "before", "now"),
    [
        ({"sft": {"epochs": 9}}, "sft.epochs", "2", "9"),
        ({"ppo": {"policy_optimiser": FASTER}}, "ppo.policy_optimiser.learning_rate", "0.0001", "0.0002"),
        ({"reward": {"seed": 5}}, "reward.seed", "1", "5"),
        ({"corpus": {"sources": [{"samples": "reviews", "repeat": 3}]}}, "corpus.sources.0.repeat", "1", "3"),
    ],
)
@pytest.mark.usefixtures("fakes")
def test_a_run_folder_of_another_recipe_is_refused_before_anything_changes(
    tmp_path: Path, sections: dict[str, Any], key: str, before: str, now: str
) -> None:
    run = go(tmp_path, make_recipe())
    files = everything(run.folder)
    with pytest.raises(UserError) as caught:
        go(tmp_path, make_recipe(**sections))
    sentence = str(caught.value)
    assert "is of another recipe" in sentence
    assert f"`{key}` = {before}, this recipe {now};" in sentence
    assert "--run NAME" in sentence
    assert everything(run.folder) == files


def test_the_seed_of_the_recipe_counts_only_where_a_stage_has_none(tmp_path: Path, fakes: Fakes) -> None:
    own = {stage: {"seed": 3} for stage in STAGES if stage != "corpus"}
    corpus = {"sources": [{"samples": "reviews"}], "seed": 3}
    go(tmp_path, make_recipe(seed=1, **own, corpus=corpus))
    go(tmp_path, make_recipe(seed=2, **own, corpus=corpus))
    assert len(fakes.calls) == len(STAGES)


def test_an_interrupted_stage_of_another_recipe_is_refused_too(tmp_path: Path, fakes: Fakes) -> None:
    real = fakes.run

    def fail(stage: Stage) -> dict[str, Any]:
        if stage.name == "pretrain":
            if stage.settings.tokens != 7:
                (stage.folder / "checkpoints" / "00000050").mkdir(parents=True)
            raise KeyboardInterrupt
        return real(stage)

    fakes.run = fail  # type: ignore[method-assign]
    for tokens in (7, 1_000_000):  # of the first attempt there is no checkpoint: nothing is lost
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path, make_recipe(pretrain={"tokens": tokens}))
    with pytest.raises(UserError, match=r"`pretrain.tokens` = 1000000, this recipe 5; .* delete .*\.pretrain\.partial"):
        go(tmp_path, make_recipe(pretrain={"tokens": 5}))


def test_changed_texts_of_a_folder_make_a_new_corpus(
    tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("One.")
    (texts / "gone.txt").symlink_to("nowhere")
    recipe = make_recipe(corpus={"sources": [{"folder": str(texts)}, {"samples": "reviews"}]})
    go(tmp_path, recipe)
    fakes.calls.clear()
    run = go(tmp_path, recipe)
    assert fakes.calls == []
    assert f"folder {texts}" in lineage(run)
    (texts / "a.txt").write_text("Two.")
    go(tmp_path, recipe)
    assert fakes.calls[:1] == ["corpus"]
    assert "changed" in capsys.readouterr().err


def test_the_curve_to_expect_goes_into_the_run(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    with Run(tmp_path, "r") as run:
        pipeline.keep_expected_curve(recipe, run)
        assert not (run.folder / EXPECTED_CURVE).exists()
        (tmp_path / "mine.curve.json").write_text("[]")
        pipeline.keep_expected_curve(recipe, run)
    assert (run.folder / EXPECTED_CURVE).read_text() == "[]"


def test_what_a_stage_reads_of_other_sections_counts(tmp_path: Path, fakes: Fakes) -> None:
    go(tmp_path, make_recipe(), until="feedback")
    other = make_recipe(sft={"instructions": {"film-reviews": "Say something."}})
    source = find_run("r", tmp_path)
    fakes.calls.clear()
    go(tmp_path, other, "other", until="feedback", reuse=source)
    assert fakes.calls == ["sft", "feedback"]


def test_stages_read_only_what_their_place_in_the_order_declares() -> None:
    """A setting of another section that a stage reads without saying so would not be compared when a run goes on."""
    folder = Path(headwater.stages.__file__).parent
    for step in STEPS:
        path = folder / f"{step.name}.py"
        if not path.is_file() or step.name == "report":
            continue
        declared = (*step.reads, step.name, "run", "asks", *MACHINE)
        for read in re.findall(r"\brecipe\.([a-z_.]+)", ast.unparse(ast.parse(path.read_text()))):
            known = any(read == one or read.startswith(f"{one}.") or one.startswith(f"{read}.") for one in declared)
            assert known, f"the stage {step.name} reads {read}: add it to its `reads` in steps.py"


def test_stages_read_only_their_declared_parents() -> None:
    folder = Path(headwater.stages.__file__).parent
    for step in STEPS:
        path = folder / f"{step.name}.py"
        if path.is_file():
            used = re.findall(r"\.(?:parent|metrics_of|manifest_of)\([\"'](\w+)[\"']\)", path.read_text())
            assert set(used) <= set(step.parents), f"the stage {step.name} lacks a parent in steps.py"


def test_one_stage_needs_its_parents(tmp_path: Path, fakes: Fakes) -> None:
    with Run(tmp_path, "r") as run:
        with pytest.raises(UserError, match=r"`tokenizer` needs `corpus`, which the run r has not finished"):
            pipeline.run_one(make_recipe(), run, "tokenizer")
        for stage in ("samples", "corpus", "tokenizer", "tokenizer"):
            pipeline.run_one(make_recipe(), run, stage)
        assert fakes.calls == ["samples", "corpus", "tokenizer"]
        (run.stage("corpus") / "model" / "weights").write_text("damaged")
        with pytest.raises(UserError, match=r"corpus/model/weights is damaged"):
            pipeline.run_one(make_recipe(), run, "tokenizer")
        with pytest.raises(UserError, match=r"stage `samples` has `corpus.sources.0.repeat` = 1, this recipe 2"):
            pipeline.run_one(make_recipe(corpus={"sources": [{"samples": "reviews", "repeat": 2}]}), run, "tokenizer")


def test_reuse_takes_what_is_the_same_and_makes_the_rest(
    tmp_path: Path, fakes: Fakes, capfd: pytest.CaptureFixture[str]
) -> None:
    first = go(tmp_path, make_recipe())
    fakes.calls.clear()
    second = go(tmp_path, make_recipe(run="s", sft={"seed": 2}), "s", reuse=first)
    assert fakes.calls == ["sft", "reward", "ppo", "evaluate", "report"]
    assert "sft: not taken from r, where `sft.seed` is 1, here 2" in capfd.readouterr().err
    assert second.manifest("pretrain") == first.manifest("pretrain")
    assert weights(second, "sft") != weights(first, "sft")
    assert second.damage("pretrain") == []


@pytest.mark.usefixtures("fakes")
def test_reuse_of_a_damaged_stage_is_refused(tmp_path: Path) -> None:
    first = go(tmp_path, make_recipe(), until="corpus")
    (first.stage("corpus") / "model" / "weights").write_text("damaged")
    with pytest.raises(UserError, match=r"corpus/model/weights is damaged"):
        go(tmp_path, make_recipe(), "s", until="corpus", reuse=first)


def test_databases_are_copied_when_reused(tmp_path: Path, fakes: Fakes) -> None:
    real = fakes.run

    def with_database(stage: Stage) -> dict[str, Any]:
        (stage.folder / "feedback.db").write_text("rows")
        return real(stage)

    fakes.run = with_database  # type: ignore[method-assign]
    first = go(tmp_path, make_recipe(), until="samples")
    second = go(tmp_path, make_recipe(), "s", until="samples", reuse=first)
    assert not (first.stage("samples") / "feedback.db").samefile(second.stage("samples") / "feedback.db")
    with (second.stage("samples") / "feedback.db").open("a") as file:
        file.write("more")
    assert first.damage("samples") == []


KILLED = """
import sys, time
from pathlib import Path
from headwater import pipeline
from headwater.recipe import validate
from headwater.runs import Run

def run(stage):
    state = stage.folder / "checkpoint"
    step, value = map(int, state.read_text().split()) if stage.resumed and state.exists() else (0, 1)
    while step < 40:
        time.sleep(0.01)
        step, value = step + 1, value * 31 % 1_000_003
        with (stage.folder.parent / "steps.log").open("a") as log:
            log.write(f"{stage.name} {step}\\n")
        pipeline.storage.write_atomically(state, f"{step} {value}")
    (stage.folder / "weights").write_text(str(value))
    return {}

pipeline.function_of = lambda name: run
sources = [{"samples": "reviews"}]
with Run(Path(sys.argv[1]), "r") as run_of_test:
    recipe = validate({"run": "r", "corpus": {"sources": sources}}, "test")
    pipeline.run_all(recipe, run_of_test, until="pretrain")
"""


def test_killed_in_the_middle_it_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED]
    subprocess.run([*command, str(tmp_path / "undisturbed")], check=True, capture_output=True)
    work = tmp_path / "killed" / "r" / ".pretrain.partial"
    for least in (5, 15):
        process = subprocess.Popen([*command, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < end:
            state = work / "checkpoint"
            if state.exists() and int(state.read_text().split()[0]) >= least:
                break
            time.sleep(0.002)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "r" / "pretrain").exists()
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    expected = Run(tmp_path / "undisturbed", "r").manifest("pretrain")
    found = Run(tmp_path / "killed", "r").manifest("pretrain")
    assert expected is not None
    assert found is not None
    assert found["content_hash"] == expected["content_hash"]
    assert found["attempts"] == 3
    steps = (tmp_path / "killed" / "r" / "steps.log").read_text().split("\n")
    assert steps.count("pretrain 1") == 1  # done before the first kill, never again
    assert steps.count("corpus 40") == 1


@pytest.mark.usefixtures("fakes")
def test_lineage_tells_every_stage_once(tmp_path: Path) -> None:
    run = go(tmp_path, make_recipe(ppo={"steps": 5, "policy_optimiser": FASTER}))
    text = lineage(run)
    lines = text.splitlines()
    assert lines[0] == "r"
    assert lines[1].startswith("└─ evaluate ")
    hashes = {stage: (run.manifest(stage) or {})["content_hash"][:12] for stage in STAGES}
    for stage in STAGES[:-1]:
        told = [line for line in lines if re.search(rf"─ {stage} {hashes[stage]}$", line)]
        assert len(told) == 1, stage
    assert "settings: steps=5, policy_optimiser.learning_rate=0.0002" in text
    assert "settings: sources=[reviews]" in text
    assert "figures: documents_kept 1,234, loss 0.1235" in text
    assert "(told above)" in text
    assert "ppo" not in lineage(run, "sft")


@pytest.mark.usefixtures("fakes")
def test_lineage_says_when_a_parent_is_not_the_one_that_was_used(tmp_path: Path) -> None:
    run = go(tmp_path, make_recipe(), until="tokenizer")
    used = (run.manifest("corpus") or {})["content_hash"][:12]
    run.set_aside("corpus", "old")
    with run:
        recipe = make_recipe()
        identity = pipeline.Identity.of(recipe, "corpus", {})
        run.make("corpus", recipe, identity, lambda _: {}, False)
    assert f"! made again since: this is not {used}, which was used" in lineage(run, "tokenizer")
    run.set_aside("corpus", "old")
    assert "corpus: not there" in lineage(run, "tokenizer")
    assert lineage(Run(tmp_path, "empty")) == "empty: no stage is finished yet"


@pytest.mark.usefixtures("fakes")
def test_models_and_runs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = go(tmp_path, make_recipe(), until="sft")
    assert model_folder("r", tmp_path) == run.stage("sft") / "model"
    assert model_folder("r/pretrain", tmp_path) == run.stage("pretrain") / "model"
    assert model_folder("r", tmp_path, "pretrain") == run.stage("pretrain") / "model"
    assert model_folder(str(run.stage("sft") / "model"), tmp_path / "x") == run.stage("sft") / "model"
    assert find_stage("r/sft", tmp_path)[1] == "sft"
    assert find_stage(str(run.folder), tmp_path / "x")[0].name == "r"
    monkeypatch.chdir(run.folder)
    assert find_run(".", tmp_path / "x").name == "r"
    with pytest.raises(UserError, match="has not finished the stage `ppo`"):
        model_folder("r", tmp_path, "ppo")
    with pytest.raises(UserError, match="There is no run `nothing`"):
        model_folder("nothing", tmp_path)
    (run.stage("sft") / "model" / "weights").write_text("damaged")
    with pytest.raises(UserError, match=r"sft/model/weights is damaged"):
        model_folder("r", tmp_path)


@pytest.mark.usefixtures("fakes")
def test_table_lists_runs(tmp_path: Path) -> None:
    assert "There are no runs" in table(tmp_path)
    go(tmp_path, make_recipe(), until="sft")
    go(tmp_path, make_recipe(), "longer-name")
    first, second = table(tmp_path).splitlines()
    assert first.startswith("longer-name  10 of 10 stages, last report")
    assert second.startswith("r             5 of 10 stages, last sft")


@pytest.mark.usefixtures("fakes")
def test_closing_shows_answers_report_and_chat(tmp_path: Path) -> None:
    run = go(tmp_path, make_recipe())
    lines = pipeline.closing(run, {"Talk to it": "headwater chat r", "Judge": "headwater serve r"}).splitlines()
    assert [line for line in lines if "before:" in line] == ["    before: b0", "    before: b3", "    before: b6"]
    report = run.folder / "report.html"
    assert lines[-3:] == [f"Report: {report}", "Talk to it: headwater chat r", "Judge: headwater serve r"]
    assert os.path.exists(run.folder / "report.html")


def test_what_comes_after_pretraining_is_refused_before_any_stage_runs(tmp_path: Path, fakes: Fakes) -> None:
    pretrain = {"objective": "masked", "model": {"architecture": "encoder"}}
    recipe = make_recipe(pretrain=pretrain)
    with pytest.raises(UserError, match=r"The stage `sft` needs a model that learns to write, .* `until: pretrain`"):
        go(tmp_path, recipe)
    with Run(tmp_path, "r") as run, pytest.raises(UserError, match="The stage `ppo` needs a model that learns"):
        pipeline.run_one(recipe, run, "ppo")
    assert fakes.calls == []
    go(tmp_path, recipe, until="pretrain")
    assert fakes.calls == list(STAGES[:4])


def test_a_base_or_a_reward_that_is_nowhere_is_named_before_any_stage(tmp_path: Path, fakes: Fakes) -> None:
    with pytest.raises(UserError, match="`base` is llm-smolm2, which is neither a folder"):
        go(tmp_path, make_recipe(base="llm-smolm2"))
    with pytest.raises(UserError, match=r"ppo\.reward: there is no file nowhere\.py; give its path"):
        go(tmp_path, make_recipe(ppo={"reward": "nowhere.py:score"}))
    assert fakes.calls == []
    go(tmp_path, make_recipe(ppo={"reward": "nowhere.py:score"}), until="reward")


def test_another_function_in_the_file_of_a_reward_makes_ppo_anew(tmp_path: Path, fakes: Fakes) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def score(prompts, answers): return [1.0]")
    recipe = make_recipe(ppo={"reward": f"{file}:score"})
    go(tmp_path, recipe)
    file.write_text("def score(prompts, answers): return [2.0]")
    fakes.calls.clear()
    go(tmp_path, recipe)
    assert fakes.calls == ["ppo"], "which comes out the same here, so that what follows stays"
    fakes.calls.clear()
    go(tmp_path, recipe)
    assert fakes.calls == []


def test_a_finished_run_stays_when_its_base_is_moved_and_starts_anew_when_it_changes(
    tmp_path: Path, fakes: Fakes
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    recipe = make_recipe(base=str(base))
    go(tmp_path / "runs", recipe)
    base.rename(tmp_path / "elsewhere")
    fakes.calls.clear()
    go(tmp_path / "runs", recipe)
    assert fakes.calls == []
    base.mkdir()
    (base / "config.json").write_text('{"other": 1}')
    go(tmp_path / "runs", recipe)
    assert "tokenizer" in fakes.calls
    assert "samples" not in fakes.calls


@pytest.mark.usefixtures("fakes")
def test_a_finished_stage_of_before_a_setting_existed_stays(tmp_path: Path) -> None:
    run = go(tmp_path, make_recipe(), until="corpus")
    path = run.stage("corpus") / "manifest.json"
    manifest = run.manifest("corpus")
    assert manifest is not None
    before = manifest["content_hash"]
    manifest.pop("seal", None)
    assert manifest["settings"].pop("privacy") is True
    assert manifest["settings"]["sources"][0].pop("repeat") == 1
    assert manifest["other_settings"] == {}
    write_manifest(run.stage("corpus"), manifest)
    assert "privacy" not in path.read_text(encoding="utf-8")
    assert (go(tmp_path, make_recipe(), until="corpus").manifest("corpus") or {})["content_hash"] == before
    with pytest.raises(UserError, match=r"corpus\.privacy"):
        go(tmp_path, make_recipe(corpus={"sources": [{"samples": "reviews"}], "privacy": False}), until="corpus")


@pytest.mark.usefixtures("fakes")
def test_a_finished_stage_of_before_it_read_a_setting_stays(tmp_path: Path) -> None:
    run = go(tmp_path, make_recipe(), until="sft")
    manifest = run.manifest("sft")
    assert manifest is not None
    before = manifest["content_hash"]
    manifest.pop("seal", None)
    assert manifest["other_settings"].pop("base") is None
    assert manifest["other_settings"].pop("pretrain.model.context") == 256
    write_manifest(run.stage("sft"), manifest)
    assert (go(tmp_path, make_recipe(), until="sft").manifest("sft") or {})["content_hash"] == before
    with pytest.raises(UserError, match=r"`pretrain\.model\.context` = 256, this recipe 128"):
        go(tmp_path, make_recipe(pretrain={"model": {"context": 128}}, ppo={"max_new_tokens": 32}), until="sft")
