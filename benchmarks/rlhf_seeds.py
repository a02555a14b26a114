"""What reinforcement learning from people's ratings reaches, over several seeds of one pretrained model.

For each seed N, the recipe is run as BASE-seed-N; its stages samples to pretrain are taken over from the run BASE, and
the seed of every stage from sft to evaluate is N; of SmolLM2's recipe, whose SFT and reward model take half an hour, that
of ppo and evaluate. So the pretrained weights are the same (that is checked), and all that comes after them varies. What
must hold is known by the recipe's file name (`CLAIMS`). The table has a line per seed, whether its targets hold, and the
spread; no seed is left out. Finished seeds are not run again. Exit code 1 where a seed misses a target.

    headwater run recipes/quickstart.yaml
    python benchmarks/rlhf_seeds.py recipes/quickstart.yaml --run quickstart --seeds 1 2 3 4 5 --json seeds.json

Further settings, such as ppo.steps=80, stand behind the recipe as they do for `headwater run`; none of them may concern
the stages that are taken over.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from command import headwater_run
from measuring import show, write_json

Bounds = Mapping[str, tuple[float, float]]
"""{value: (least, most)}."""


@dataclass(frozen=True)
class Claim:
    """What a recipe promises for every seed: PPO's win rates over SFT by three judges, KL in nats, perplexity of the answers
    under the pretrained model, variety and length, the last three after PPO over before."""

    seeded: tuple[str, ...]
    """Stages whose seed varies."""
    bounds: Bounds


SIDE_EFFECTS = {"distinct_2_ratio": (0.8, inf), "length_ratio": (0.7, 1.3)}
LATER = ("sft", "feedback", "reward", "ppo", "evaluate")

CLAIMS = {
    "quickstart": Claim(
        LATER,
        {
            "reward_model": (0.85, inf),
            "bag_of_words": (0.8, inf),
            "lexicon": (0.65, inf),
            "kl": (-inf, 12),
            **SIDE_EFFECTS,
        },
    ),
    "quickstart-zh": Claim(LATER, {"reward_model": (0.8, inf), "kl": (-inf, 12), **SIDE_EFFECTS}),
    "smollm2-reviews": Claim(
        ("ppo", "evaluate"),
        {
            "reward_model": (0.9, inf),
            "lexicon": (0.8, inf),
            "kl": (-inf, 15),
            "perplexity_ratio": (-inf, 1.5),
            **SIDE_EFFECTS,
        },
    ),
}
"""By the recipe's file name; another recipe is held up to the quickstart's."""

HEADINGS = {
    "reward_model": "reward model",
    "bag_of_words": "bag of words",
    "lexicon": "lexicon",
    "kl": "KL",
    "distinct_2_ratio": "distinct-2",
    "length_ratio": "length",
    "perplexity_ratio": "perplexity",
    "reward_accuracy": "reward accuracy",
    "seconds": "seconds",
}


def claim_of(recipe: Path) -> Claim:
    """What this recipe promises."""
    return CLAIMS.get(recipe.stem, CLAIMS["quickstart"])


def line_of(summary: Mapping[str, Any], claim: Claim) -> dict[str, Any]:
    """A run's summary.json → the measured values of one seed; what was not measured is None."""
    evaluation = summary["evaluation"]
    seconds = summary["seconds"]
    values = {
        **{judge: evaluation["win_rate"].get(judge) for judge in ("reward_model", "bag_of_words", "lexicon")},
        **{name: evaluation[name] for name in ("kl", "distinct_2_ratio", "length_ratio")},
        "perplexity_ratio": evaluation["perplexity_after"] / evaluation["perplexity_before"],
        "reward_accuracy": summary["reward"]["accuracy"],
        "seconds": sum(seconds[stage] for stage in (*claim.seeded, "report") if stage in seconds),
    }
    holds = check(values, claim.bounds)
    return {"values": values, "win_rate_ci": dict(evaluation["win_rate_ci"]), "holds": holds}


def check(values: Mapping[str, float | None], bounds: Bounds) -> dict[str, bool]:
    """{target: whether it holds}; a value that was not measured does not hold."""
    found = {name: values.get(name) for name in bounds}
    return {name: value is not None and bounds[name][0] <= value <= bounds[name][1] for name, value in found.items()}


def heading(name: str, bounds: Bounds) -> str:
    """What is measured, and the bound where there is one."""
    least, most = bounds.get(name, (-inf, inf))
    if least > -inf and most < inf:
        return f"{HEADINGS[name]} {least:g}–{most:g}"
    return HEADINGS[name] + (f" ≥ {least:g}" if least > -inf else f" ≤ {most:g}" if most < inf else "")


def spread(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Least, mean, largest and standard deviation of each value over the seeds that measured it."""
    result = {}
    for name in HEADINGS:
        values = [line["values"][name] for line in lines if line["values"][name] is not None]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            result[name] = {
                "least": min(values),
                "mean": statistics.fmean(values),
                "largest": max(values),
                "deviation": deviation,
            }
    return result


def table(lines: Mapping[int, Mapping[str, Any]], bounds: Bounds) -> str:
    """A markdown table: a line per seed (** ** around what misses its target), then the spread."""
    rows = [["seed", *(heading(name, bounds) for name in HEADINGS), "targets"]]
    for seed, line in lines.items():
        missed = [name for name, holds in line["holds"].items() if not holds]
        cells = [_cell(name, line) for name in HEADINGS]
        rows.append([str(seed), *cells, "all hold" if not missed else "missed: " + ", ".join(missed)])
    measured = spread(list(lines.values()))
    for measure in ("least", "mean", "largest", "deviation"):
        cells = [_number(name, measured[name][measure]) if name in measured else "–" for name in HEADINGS]
        rows.append([measure, *cells, ""])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(name: str, line: Mapping[str, Any]) -> str:
    value = line["values"][name]
    text = "–" if value is None else _number(name, value)
    interval = line["win_rate_ci"].get(name)
    if value is not None and interval:
        text += f" [{_number(name, interval[0])}, {_number(name, interval[1])}]"
    return text if line["holds"].get(name, True) else f"**{text}**"


def _number(name: str, value: float) -> str:
    return f"{value:.0f}" if name == "seconds" else f"{value:.1f}" if name == "kl" else f"{value:.3f}"


def run_seed(given: argparse.Namespace, root: Path, seed: int) -> dict[str, Any]:
    """Runs the recipe with one seed (what is finished is kept) → its summary. Ends where a run fails."""
    name = f"{given.run}-seed-{seed}"
    overrides = [*given.overrides, *(f"{stage}.seed={seed}" for stage in claim_of(given.recipe).seeded)]
    for until in ("pretrain", "report"):
        command = headwater_run(given.recipe, overrides, run=name, root=root, reuse=given.run, until=until)
        if code := subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise SystemExit(code)
        if _pretrained(root / name) != _pretrained(root / given.run):
            raise SystemExit(
                f"The run {name} has another pretrained model than {given.run}: give the recipe and the settings "
                f"that {given.run} was made with, and delete {root / name}."
            )
    return json.loads((root / name / "summary.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _pretrained(run: Path) -> str | None:
    from headwater.manifest import read_manifest

    manifest = read_manifest(run / "pretrain")
    return manifest["content_hash"] if manifest else None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="STAGE.KEY=VALUE")
    parser.add_argument("--run", required=True, metavar="BASE", help="finished run whose pretrained model is taken")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of all runs; else as `headwater run` does")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    return parser.parse_args()


def main() -> int:
    from headwater.catalogue import runs_root

    given = arguments()
    root = runs_root(given.runs)
    if _pretrained(root / given.run) is None:
        raise SystemExit(f"{root / given.run} has no finished pretrain stage: run the recipe as {given.run} first.")
    lines, claim = {}, claim_of(given.recipe)
    for seed in given.seeds:
        show(f"seed {seed}")
        lines[seed] = line_of(run_seed(given, root, seed), claim)
    print(table(lines, claim.bounds))
    good = sum(all(line["holds"].values()) for line in lines.values())
    print(f"\n{good} of {len(lines)} seeds hold all targets.")
    write_json(
        given.json,
        {
            "seeds": {str(seed): line for seed, line in lines.items()},
            "spread": spread(list(lines.values())),
            "hold_all_targets": good,
            "pretrained": _pretrained(root / given.run),
        },
    )
    return 0 if good == len(lines) else 1


if __name__ == "__main__":
    raise SystemExit(main())
