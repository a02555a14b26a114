import sys
import time

import psutil
import pytest

import kill_resume
from headwater.manifest import content_hash, write_manifest
from headwater.steps import STAGES
from headwater.storage import checksums
from kill_resume import Moment

SECONDS = {"pretrain": 10.0, "sft": 5.0, "ppo": 25.0}


def test_moments_are_spread_over_the_run_and_follow_the_seed():
    moments = kill_resume.draw_moments(SECONDS, 8, seed=3)
    starts = {"pretrain": 0.0, "sft": 10.0, "ppo": 15.0}
    places = [starts[moment.stage] + moment.seconds for moment in moments]
    assert all(5 * part <= place < 5 * part + 5 for part, place in enumerate(places))
    assert all(moment.seconds <= SECONDS[moment.stage] for moment in moments)
    assert moments == kill_resume.draw_moments(SECONDS, 8, seed=3)
    assert moments != kill_resume.draw_moments(SECONDS, 8, seed=4)


def test_a_moment_in_a_finished_stage_moves_to_the_next():
    moment = Moment("pretrain", 5.0)
    assert kill_resume.reachable(moment, [], SECONDS) == moment
    assert kill_resume.reachable(moment, ["pretrain", "sft"], SECONDS) == Moment("ppo", 12.5)
    assert kill_resume.reachable(moment, list(SECONDS), SECONDS) is None


def test_a_stage_that_goes_on_waits_only_for_the_rest():
    before, now = Moment("ppo", 4.0), Moment("ppo", 7.0)
    assert kill_resume.wait_in_stage(now, before, goes_on=True) == 3.0
    assert kill_resume.wait_in_stage(now, before, goes_on=False) == 7.0
    assert kill_resume.wait_in_stage(now, Moment("sft", 4.0), goes_on=True) == 7.0
    assert kill_resume.wait_in_stage(now, None, goes_on=True) == 7.0


def a_run(folder, weights=b"weights", other=b"other"):
    for stage in STAGES:
        (folder / stage / "model").mkdir(parents=True)
        (folder / stage / "model" / "model.safetensors").write_bytes(weights)
        (folder / stage / "other.json").write_bytes(other)
        found = checksums(folder / stage)
        write_manifest(folder / stage, {"checksums": found, "content_hash": content_hash(found)})
    return folder


def test_equal_runs_are_identical(tmp_path):
    found = kill_resume.compare(a_run(tmp_path / "a"), a_run(tmp_path / "b"))
    assert list(found) == list(STAGES)
    assert all(kill_resume.is_identical(stage, one) for stage, one in found.items())
    assert "different" not in kill_resume.table(found)


def test_one_changed_weight_shows(tmp_path):
    first, second = a_run(tmp_path / "a"), a_run(tmp_path / "b")
    (second / "feedback" / "model" / "model.safetensors").write_bytes(b"weightz")
    found = kill_resume.compare(first, second)
    assert [stage for stage in STAGES if not kill_resume.is_identical(stage, found[stage])] == ["feedback"]
    assert "model/model.safetensors: **different**" in kill_resume.table(found)


def test_other_content_counts_unless_the_stage_tells_times(tmp_path):
    found = kill_resume.compare(a_run(tmp_path / "a"), a_run(tmp_path / "b", other=b"changed"))
    same = [stage for stage in STAGES if kill_resume.is_identical(stage, found[stage])]
    assert same == list(kill_resume.TIMED)


@pytest.mark.parametrize("stage", ["ppo", "report"])
def test_a_missing_stage_or_file_is_not_identical(tmp_path, stage):
    first, second = a_run(tmp_path / "a"), a_run(tmp_path / "b")
    (second / stage / "manifest.json").unlink()
    (second / "sft" / "model" / "model.safetensors").unlink()
    found = kill_resume.compare(first, second)
    wrong = [name for name in STAGES if not kill_resume.is_identical(name, found[name])]
    assert wrong == ["sft", stage]
    assert "missing" in kill_resume.table(found)


def is_running(number):
    """A killed process may stay for a moment until it is reaped."""
    try:
        return psutil.Process(number).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def test_a_kill_reaches_the_whole_group(tmp_path):
    child = "import time; time.sleep(600)"
    parent = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); print(p.pid, flush=True); p.wait()"
    log = tmp_path / "log"
    with kill_resume.started([sys.executable, "-c", parent], log) as process:
        end = time.monotonic() + 30
        while not log.read_text().strip() and time.monotonic() < end:
            time.sleep(0.02)
        assert kill_resume.kill(process)
        assert not kill_resume.kill(process)
    number = int(log.read_text())
    end = time.monotonic() + 30
    while is_running(number) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(number)


def test_only_the_stages_that_both_runs_were_to_make_are_compared(tmp_path):
    first, second = a_run(tmp_path / "a"), a_run(tmp_path / "b")
    (second / "report" / "manifest.json").unlink()
    found = kill_resume.compare(first, second, STAGES[: STAGES.index("ppo") + 1])
    assert list(found)[-1] == "ppo"
    assert all(kill_resume.is_identical(stage, one) for stage, one in found.items())
