"""A run's folder: the lock, the clock, and stages that are finished or not there."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from headwater import storage
from headwater.clock import CLOCK, Clock
from headwater.errors import UserError
from headwater.manifest import Identity, content_hash, plain, read_manifest, write_manifest
from headwater.recipe import Recipe, validate
from headwater.runs import IDENTITY, MANIFEST, Run, Stage

IDENTITY_OF_TEST = Identity({"vocabulary": 300}, 1, {"corpus": "abc"})


@pytest.fixture
def recipe() -> Recipe:
    sources = [{"samples": "reviews"}]
    return validate({"run": "r", "seed": 7, "corpus": {"sources": sources}, "sft": {"seed": 0}}, "test")


def write_model(stage: Stage) -> dict[str, Any]:
    (stage.folder / "model").mkdir(exist_ok=True)
    (stage.folder / "model" / "weights").write_text("weights")
    (stage.folder / "metrics.jsonl").write_text(f"{time.time()}\n")
    return {"loss": 1.5}


def test_stage_knows_its_settings_and_seed(recipe: Recipe, tmp_path: Path) -> None:
    stage = Stage("sft", recipe, tmp_path)
    assert stage.settings is recipe.sft
    assert stage.seed == 0
    assert Stage("ppo", recipe, tmp_path).seed == 7


def test_stage_reads_its_parents(recipe: Recipe, tmp_path: Path) -> None:
    with Run(tmp_path, "r") as run:
        run.make("tokenizer", recipe, Identity({}, 1), write_model, False)
    stage = Stage("pretrain", recipe, tmp_path / "work", {"tokenizer": run.stage("tokenizer")})
    assert stage.metrics_of("tokenizer") == {"loss": 1.5}
    assert (stage.parent("tokenizer") / "model" / "weights").read_text() == "weights"


def test_finished_stage_has_all_of_its_manifest(recipe: Recipe, tmp_path: Path) -> None:
    with Run(tmp_path, "r") as run:
        run.make("tokenizer", recipe, IDENTITY_OF_TEST, write_model, False)
    manifest = run.manifest("tokenizer")
    assert manifest is not None
    assert manifest["stage"] == "tokenizer"
    assert manifest["settings"] == {"vocabulary": 300}
    assert manifest["parents"] == {"corpus": "abc"}
    assert manifest["metrics"] == {"loss": 1.5}
    assert manifest["attempts"] == 1
    assert manifest["peak_memory_mb"] > 5
    assert manifest["seconds"] >= 0
    assert set(manifest["checksums"]) == {"model/weights", "metrics.jsonl"}
    assert manifest["machine"]["cores"] >= 1
    assert sorted(os.listdir(run.folder)) == [".lock", "tokenizer"]
    assert run.damage("tokenizer") == []


def test_equal_runs_have_the_same_content_hash(recipe: Recipe, tmp_path: Path) -> None:
    hashes = set()
    for name in ("first", "second"):
        with Run(tmp_path, name) as run:
            hashes.add(run.make("tokenizer", recipe, IDENTITY_OF_TEST, write_model, False)["content_hash"])
    assert len(hashes) == 1


def test_content_hash_depends_on_content_and_names_but_not_on_logs() -> None:
    base = {"model/w": "1", "metrics.jsonl": "2", "tensorboard/x": "3"}
    assert content_hash(base) == content_hash({"tensorboard/x": "9", "model/w": "1", "judge/checkpoints/7/w": "5"})
    assert content_hash(base) != content_hash({**base, "model/w": "2"})
    assert content_hash(base) != content_hash({"model/v": "1"})


def test_manifest_is_written_after_everything_else(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    for name in ("fsync_tree", "write_atomically", "finish_folder"):
        real = getattr(storage, name)

        def record(path: Path, *rest: Any, name: str = name, real: Any = real) -> None:
            order.append(f"{name} {path.name}")
            real(path, *rest)

        monkeypatch.setattr(storage, name, record)
    with Run(tmp_path, "r") as run:
        run.make("sft", recipe, IDENTITY_OF_TEST, write_model, False)
    start = order.index("write_atomically manifest.json")
    assert "fsync_tree .sft.partial" in order[:start]
    assert order[start + 1] == "finish_folder .sft.partial"


def test_kill_between_manifest_and_rename_loses_nothing(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Path) -> None:
        raise KeyboardInterrupt

    run = Run(tmp_path, "r")
    with run, monkeypatch.context() as patch:
        patch.setattr(storage, "finish_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            run.make("sft", recipe, IDENTITY_OF_TEST, write_model, False)
    assert not run.is_finished("sft")
    with run:
        assert run.is_finished("sft")
        assert run.damage("sft") == []


def test_failed_stage_does_not_look_finished_and_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    seen: list[tuple[bool, list[str]]] = []

    def interrupted(stage: Stage) -> dict[str, Any]:
        seen.append((stage.resumed, sorted(name for name in os.listdir(stage.folder) if name[0] != ".")))
        (stage.folder / "checkpoint").write_text("1")
        (stage.folder / ".weights.partial").write_text("half")
        if len(seen) < 3:
            raise ValueError("power cut")
        return {}

    with Run(tmp_path, "r") as run:
        for goes_on in (True, True):
            with pytest.raises(ValueError, match="power cut"):
                run.make("sft", recipe, IDENTITY_OF_TEST, interrupted, goes_on)
        assert not run.is_finished("sft")
        assert run.make("sft", recipe, IDENTITY_OF_TEST, interrupted, True)["attempts"] == 3
    assert seen == [(False, []), (True, ["checkpoint"]), (True, ["checkpoint"])]
    assert sorted(os.listdir(run.stage("sft"))) == ["checkpoint", MANIFEST]


@pytest.mark.parametrize("other", [Identity({"vocabulary": 301}, 1, {"corpus": "abc"}), IDENTITY_OF_TEST])
def test_leftovers_of_another_identity_or_of_a_stage_that_starts_again_are_removed(
    recipe: Recipe, tmp_path: Path, other: Identity
) -> None:
    def fail(stage: Stage) -> dict[str, Any]:
        (stage.folder / "half").mkdir()
        (stage.folder / "half" / "file").write_text("x")
        raise ValueError

    with Run(tmp_path, "r") as run:
        with pytest.raises(ValueError):  # noqa: PT011
            run.make("corpus", recipe, IDENTITY_OF_TEST, fail, False)
        run.make("corpus", recipe, other, lambda stage: {"here": len(list(stage.folder.glob("half*")))}, False)
    manifest = run.manifest("corpus")
    assert manifest is not None
    assert manifest["metrics"] == {"here": 0}
    assert manifest["checksums"] == {}


def test_second_process_gets_one_sentence_with_the_holder(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from headwater.errors import UserError
from headwater.runs import Run
try:
    with Run(Path(sys.argv[1]), "r"): print("locked")
except UserError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with Run(tmp_path, "r"):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"The run r is in use by process {os.getpid()}: ")
        assert done.stdout.count("\n") == 1
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "locked\n"


def test_lock_goes_with_a_killed_process_even_if_its_worker_lives_on(tmp_path: Path) -> None:
    program = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from headwater.runs import Run
with Run(Path(sys.argv[1]), "r"):
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    print(worker.pid, flush=True)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert done.stdout is not None
    worker = int(done.stdout.readline())
    try:
        assert done.wait() == -signal.SIGKILL
        with Run(tmp_path, "r"):
            os.kill(worker, 0)  # it still lives, and does not hold the lock
    finally:
        os.kill(worker, signal.SIGKILL)


def test_run_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("x")
    with pytest.raises(UserError, match="cannot be a folder"), Run(tmp_path, "r"):
        pass


def test_clock_sums_attempts_and_survives_a_damaged_record(tmp_path: Path) -> None:
    path = tmp_path / CLOCK
    path.write_text(json.dumps({"seconds": 100.0, "attempts": 2, "peak_memory_mb": 1e9}))
    with Clock(path) as clock:
        pass
    assert 100 <= clock.seconds() < 110
    assert clock.attempts == 3
    assert clock.peak_memory_mb == 1e9
    assert json.loads(path.read_text())["attempts"] == 3
    path.write_text("[")
    with Clock(path) as clock:
        pass
    assert clock.attempts == 1


def test_clock_sees_memory_of_children(tmp_path: Path) -> None:
    with Clock(tmp_path / CLOCK) as alone:
        pass
    context = multiprocessing.get_context("spawn")
    with Clock(tmp_path / "other") as clock:
        child = context.Process(target=time.sleep, args=(60,))
        child.start()
        end = time.monotonic() + 20
        while clock.peak_memory_mb <= alone.peak_memory_mb + 1 and time.monotonic() < end:
            time.sleep(0.1)
        child.kill()
        child.join()
    assert clock.peak_memory_mb > alone.peak_memory_mb + 1


def test_every_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    write_manifest(tmp_path, {"stage": "sft", "seed": 1, "metrics": {"loss": 1.25}})
    assert read_manifest(tmp_path) == {"stage": "sft", "seed": 1, "metrics": {"loss": 1.25}}
    content = (tmp_path / MANIFEST).read_bytes()
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / MANIFEST).write_bytes(bytes(damaged))
        found = read_manifest(tmp_path)
        # White space may change, as it says nothing.
        assert found is None or found == {"stage": "sft", "seed": 1, "metrics": {"loss": 1.25}}


def test_plain_makes_metrics_json() -> None:
    class Scalar:
        def item(self) -> float:
            return 2.5

    assert plain({"a": float("nan"), "b": (1, Scalar()), 3: Path("x")}) == {"a": None, "b": [1, 2.5], "3": "x"}


def test_set_aside_never_overwrites(recipe: Recipe, tmp_path: Path) -> None:
    with Run(tmp_path, "r") as run:
        for number in (1, 2):
            run.make("sft", recipe, IDENTITY_OF_TEST, write_model, False)
            assert run.set_aside("sft", "damaged").name == f"sft.damaged-{number}"
        assert not run.is_finished("sft")


def test_identity_file_is_not_part_of_a_stage(recipe: Recipe, tmp_path: Path) -> None:
    with Run(tmp_path, "r") as run:
        run.make("sft", recipe, IDENTITY_OF_TEST, write_model, True)
        assert not (run.stage("sft") / IDENTITY).exists()
        assert not (run.stage("sft") / CLOCK).exists()
