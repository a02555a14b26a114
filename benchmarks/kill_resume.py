"""Whether a run that is killed again and again ends with the same weights as one that is left alone.

The recipe is run undisturbed as NAME-undisturbed. Then it is run as NAME-killed, and its whole process group is killed
with SIGKILL at random moments; after each kill the same command is given again, at last until it ends. The moments are
drawn with a seed, one from each tenth (for 10 kills) of the time that the undisturbed run spent in its stages. A moment
is a stage and the seconds that its work has had, since a killed stage that starts again would otherwise be hit at its
start each time, and the later stages never. Where the stage is faster than it was, the kill hits what comes after it.

Then both runs are compared, stage by stage: SHA-256 of every file of weights, and the content hash of the manifest,
which covers all files but logs. The report tells times and the run's name, so its hash differs and does not count. Exit
code 1 where a stage differs, or where fewer kills hit than asked.

    python benchmarks/kill_resume.py recipes/smoke.yaml --kills 10 --json kills.json

With --stage, both runs end with that stage, the killed one takes over the stages before it, and all kills hit it alone:

    python benchmarks/kill_resume.py recipes/smoke.yaml ppo.ptx.tokens=512 ppo.lora.rank=8 --stage ppo

An undisturbed run of the same code is used again; a killed one must not exist yet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from command import headwater_run
from headwater.clock import CLOCK
from headwater.manifest import code_version, read_manifest
from headwater.recipe import load_recipe
from headwater.runs import Run
from headwater.steps import STAGES, step_of
from headwater.storage import sha256_of
from measuring import show, write_json

TIMED = ("report",)
"""Stages whose files tell times, so that their content hash differs from run to run."""
POLL = 0.02
"""Seconds between two looks at a run."""


@dataclass(frozen=True)
class Moment:
    """When to kill: the stage, and the seconds that its work has had."""

    stage: str
    seconds: float


def draw_moments(seconds: Mapping[str, float], kills: int, seed: int) -> list[Moment]:
    """One random moment from each of `kills` equal parts of a run; `seconds`: {stage: how long it takes}, in order."""
    generator = random.Random(seed)
    total = sum(seconds.values())
    moments = []
    for part in range(kills):
        left = (part + generator.random()) / kills * total
        for stage, length in seconds.items():
            if left < length or stage == list(seconds)[-1]:
                moments.append(Moment(stage, left))
                break
            left -= length
    return moments


def reachable(moment: Moment, finished: Sequence[str], seconds: Mapping[str, float]) -> Moment | None:
    """The moment, or, where its stage is over, the same share of the next stage that is not; None at the run's end."""
    if moment.stage not in finished:
        return moment
    left = [stage for stage in list(seconds)[list(seconds).index(moment.stage) :] if stage not in finished]
    return Moment(left[0], moment.seconds / seconds[moment.stage] * seconds[left[0]]) if left else None


def wait_in_stage(moment: Moment, previous: Moment | None, goes_on: bool) -> float:
    """Seconds from the start of a stage's attempt to the kill, if the stage goes on without those that earlier attempts saved.

    previous: the stage that was killed before, with the seconds of its work that are in its checkpoints.
    """
    same = previous is not None and previous.stage == moment.stage
    return moment.seconds - previous.seconds if same and goes_on and previous is not None else moment.seconds


def compare(first: Path, second: Path, stages: Sequence[str] = STAGES) -> dict[str, dict[str, Any]]:
    """{stage: {"weights": {file: same?}, "content": same?}} of two runs' folders.

    "content" is None where a run has no whole manifest of the stage; a file that only one run has is not the same.
    """
    result = {}
    for stage in stages:
        hashes = [_weights(run / stage) for run in (first, second)]
        names = sorted(hashes[0].keys() | hashes[1].keys())
        manifests = [read_manifest(run / stage) for run in (first, second)]
        contents = [manifest["content_hash"] for manifest in manifests if manifest is not None]
        result[stage] = {
            "weights": {name: hashes[0].get(name) == hashes[1].get(name) for name in names},
            "sha256": {name: [found.get(name) for found in hashes] for name in names},
            "content": contents[0] == contents[1] if len(contents) == 2 else None,
        }
    return result


def is_identical(stage: str, found: Mapping[str, Any]) -> bool:
    """Whether a stage came out the same: its weights, and its content unless that tells times."""
    same_content = found["content"] is not None if stage in TIMED else found["content"] is True
    return same_content and all(found["weights"].values())


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A markdown table: stage, verdict, weights, content hash."""
    rows = ["| stage | | weights | content hash |", "| --- | --- | --- | --- |"]
    for stage, one in found.items():
        weights = ", ".join(f"{name}: {_word(same)}" for name, same in one["weights"].items()) or "none"
        content = {True: "identical", False: "different", None: "missing"}[one["content"]]
        content += " (tells times)" if stage in TIMED and one["content"] is False else ""
        rows.append(f"| {stage} | {_word(is_identical(stage, one))} | {weights} | {content} |")
    return "\n".join(rows)


def _word(same: bool) -> str:
    return "identical" if same else "**different**"


def _weights(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*.safetensors"))}


@contextlib.contextmanager
def started(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own, its output in a file; nothing of it outlives the block."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> bool:
    """SIGKILL to the whole group; says whether its leader was still at work."""
    working = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return working


def run_to_end(command: Sequence[str], log: Path) -> float:
    """Seconds that the command took. Ends the benchmark where it fails."""
    began = time.monotonic()
    with started(command, log) as process:
        code = process.wait()
    if code:
        raise SystemExit(f"`headwater run` ended with exit code {code}; its output is in {log}.")
    return time.monotonic() - began


def kill_at(moment: Moment, wait: float, command: Sequence[str], run: Run, log: Path) -> dict[str, Any]:
    """Starts the command and kills it at the moment → what was hit; ends the benchmark where the command fails."""
    attempts = _attempts(run, moment.stage)
    began = time.monotonic()
    due: float | None = None
    since = time.time()
    with started(command, log) as process:
        while process.poll() is None:
            if due is None and (_attempts(run, moment.stage) > attempts or run.is_finished(moment.stage)):
                due, since = time.monotonic() + wait, time.time()
            if due is not None and time.monotonic() >= due:
                break
            time.sleep(POLL)
        hit = kill(process)
    if not hit and process.returncode:
        raise SystemExit(f"`headwater run` ended with exit code {process.returncode}; its output is in {log}.")
    at_work = next((stage for stage in STAGES if not run.is_finished(stage)), None)
    saved = _newest_checkpoint(run, at_work) if at_work else None
    kept = max(0.0, saved.stat().st_mtime - since) if saved else 0.0
    alive = time.monotonic() - began
    return {"hit": hit, "at_work": at_work, "alive": alive, "checkpoint": saved and int(saved.name), "kept": kept}


def _newest_checkpoint(run: Run, stage: str) -> Path | None:
    """What a stage at work has left, named by its step: a kill between two checkpoints loses what came after."""
    found = [path for path in run.work(stage).glob("checkpoints/[0-9]*") if path.name.isdigit()]
    return max(found, key=lambda path: int(path.name), default=None)


def _attempts(run: Run, stage: str) -> int:
    """Attempts that the unfinished work of a stage has had, the running one included."""
    with contextlib.suppress(OSError, ValueError):
        return int(json.loads((run.work(stage) / CLOCK).read_text(encoding="utf-8"))["attempts"])
    return 0


def seconds_of(run: Run, stages: Sequence[str] = STAGES) -> dict[str, float] | None:
    """{stage: seconds} of a finished run of this very code; None where it is not finished."""
    manifests = {stage: run.manifest(stage) for stage in stages}
    finished = {stage: manifest for stage, manifest in manifests.items() if manifest is not None}
    if len(finished) < len(stages):
        return None
    if {manifest["code_version"] for manifest in finished.values()} != {code_version()}:
        raise SystemExit(f"{run.folder} was made by another version of headwater: delete it, or give another --name.")
    return {stage: float(manifest["seconds"]) for stage, manifest in finished.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="STAGE.KEY=VALUE")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--stage", choices=STAGES, help="kill in this stage alone; the runs end with it")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--name", help="start of both runs' names; default: the recipe's run")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of all runs; else as `headwater run` does")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    return parser.parse_args()


def main() -> int:
    from headwater.catalogue import runs_root

    given = arguments()
    root = runs_root(given.runs)
    name = given.name or load_recipe(given.recipe, given.overrides).run
    alone, killed = (Run(root, f"{name}-{way}") for way in ("undisturbed", "killed"))
    if killed.folder.exists():
        raise SystemExit(f"{killed.folder} exists already: delete it, or give another --name.")
    root.mkdir(parents=True, exist_ok=True)
    stages = STAGES[: STAGES.index(given.stage) + 1] if given.stage else STAGES
    seconds = seconds_of(alone, stages)
    if seconds is None:
        show(f"{alone.name}: the run that is left alone")
        command = headwater_run(given.recipe, given.overrides, run=alone.name, root=root, until=stages[-1])
        run_to_end(command, root / f"{alone.name}.log")
        seconds = seconds_of(alone, stages)
    assert seconds is not None
    log = root / f"{killed.name}.log"
    if given.stage:
        seconds = {given.stage: seconds[given.stage]}
        if len(stages) > 1:
            taken = {"run": killed.name, "root": root, "reuse": alone.name, "until": stages[-2]}
            run_to_end(headwater_run(given.recipe, given.overrides, **taken), log)
    command = headwater_run(given.recipe, given.overrides, run=killed.name, root=root, until=stages[-1])
    kills: list[dict[str, Any]] = []
    previous: Moment | None = None
    for number, drawn in enumerate(draw_moments(seconds, given.kills, given.seed), 1):
        moment = reachable(drawn, [stage for stage in stages if killed.is_finished(stage)], seconds)
        if moment is None:
            break
        what = kill_at(moment, wait_in_stage(moment, previous, step_of(moment.stage).goes_on), command, killed, log)
        kills.append({**asdict(moment), **what})
        place = f"in {what['at_work']}, {what['alive']:.1f} s after the start of the command"
        show(f"kill {number} of {given.kills}: {place if what['hit'] else 'the run had ended before'}")
        before = previous.seconds if previous and previous.stage == moment.stage else 0.0
        previous = Moment(moment.stage, before + what["kept"]) if what["at_work"] == moment.stage else None
    show("the last time, to the end")
    run_to_end(command, log)
    seconds_of(killed, stages)  # ends here where the code was changed meanwhile
    return conclude(given, compare(alone.folder, killed.folder, stages), kills)


def conclude(given: argparse.Namespace, found: Mapping[str, Mapping[str, Any]], kills: list[dict[str, Any]]) -> int:
    """Prints and writes the result → exit code."""
    same = all(is_identical(stage, one) for stage, one in found.items())
    hits = sum(one["hit"] for one in kills)
    print(table(found))
    print(f"\n{hits} of {given.kills} kills hit; all stages {'identical' if same else 'are NOT identical'}.")
    write_json(given.json, {"identical": same, "hits": hits, "kills": kills, "stages": found, "seed": given.seed})
    return 0 if same and hits == given.kills else 1


if __name__ == "__main__":
    raise SystemExit(main())
