"""Which policies a round's stands in a row with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headwater.manifest import write_manifest
from headwater.rlhf.policies import policies_before
from headwater.runs import Stage

RUNS = ("river", "river-round-2", "river-round-3")


def policy(runs: Path, run: str, content_hash: str, **parents: str) -> None:
    folder = runs / run / "ppo"
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, {"content_hash": content_hash, "parents": {"sft": "s", **parents}})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three rounds."""
    policy(tmp_path, RUNS[0], "one")
    policy(tmp_path, RUNS[1], "two", **{f"ppo of {RUNS[0]}": "one"})
    policy(tmp_path, RUNS[2], "three", **{f"ppo of {RUNS[1]}": "two"})
    return tmp_path


def found(runs: Path, of: str | None, run: str) -> list[str]:
    recipe = cast(Any, SimpleNamespace(round=SimpleNamespace(of=of)))
    parents = {"sft": runs / run / "sft"} | ({f"ppo of {of}": runs / of / "ppo"} if of else {})
    return [str(origin) for origin in policies_before(Stage("evaluate", recipe, runs / run / ".evaluate", parents))]


def test_all_earlier_rounds_are_known_the_oldest_first(runs: Path) -> None:
    assert found(runs, RUNS[2], "new") == ["new/sft", *(f"{run}/ppo" for run in RUNS)]
    assert found(runs, RUNS[0], "new") == ["new/sft", f"{RUNS[0]}/ppo"]
    assert found(runs, None, "new") == ["new/sft"]


def test_before_a_policy_that_is_gone_or_another_one_now_nothing_is_known(runs: Path) -> None:
    policy(runs, RUNS[0], "one, made anew")
    assert found(runs, RUNS[2], "new") == ["new/sft", f"{RUNS[1]}/ppo", f"{RUNS[2]}/ppo"]
    (runs / RUNS[1] / "ppo" / "manifest.json").unlink()
    assert found(runs, RUNS[2], "new") == ["new/sft", f"{RUNS[2]}/ppo"]
