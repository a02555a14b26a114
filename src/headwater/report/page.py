"""The report of a run: one HTML page with everything inside, which needs no network, no script and no server."""

from __future__ import annotations

import json
from typing import Any

from headwater import __version__
from headwater.report import plots, wording
from headwater.report.material import Material, Row, answer_parts, by_iteration, evenly, per_reason
from headwater.report.plots import interval_of, number
from headwater.rlhf.gate import beats_length, trivial

JUDGES = {
    "reward_model": "Judges' reward model",
    "bag_of_words": "Judges' word counts",
    "lexicon": "Lexicon",
}
"""The judges of the evaluation and what the page calls them."""

_PPO_PANELS: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "reward",
        "Reward",
        "What the policy is paid for: normalised score of its answers.",
        (("reward", "rollout"), ("heldout_reward", "held out")),
    ),
    (
        "kl",
        "KL (nats per answer)",
        "How far the policy has moved from the fine-tuned model.",
        (("kl", "rollout"), ("heldout_kl", "held out")),
    ),
    (
        "length",
        "Length (tokens)",
        "A reward that is gamed often shows here first.",
        (("length", "rollout"), ("heldout_length", "held out")),
    ),
    (
        "ended",
        "Share with stop token",
        "Answers that came to an end by themselves.",
        (("ended", "rollout"), ("heldout_ended", "held out")),
    ),
    (
        "entropy",
        "Entropy (nats per token)",
        "How much choice the policy still leaves itself.",
        (("entropy", "rollout"),),
    ),
    ("beta", "β (per nat)", "Price of moving away, steered towards the target.", (("beta", "β"),)),
    ("clip", "Clip fraction", "Tokens whose update was cut off; small is healthy.", (("clip_fraction", "clipped"),)),
    (
        "explained",
        "Explained variance",
        "How well the critic foresees the outcome; 1 is perfect.",
        (("value_explained_variance", "critic"),),
    ),
)


def render(material: Material, summary: Row, examples: int = 12) -> str:
    """The page as one string of HTML. `summary` as `summarise` gives it; `examples`: answers shown side by side."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("headwater.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=wording.printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "count",
        "decimal",
        "percent",
        "percent_interval",
        "decimal_interval",
        "millions",
        "duration",
        "cut",
        "words",
    ):
        environment.filters[name] = getattr(wording, name)
    template = environment.get_template("page.html")
    return template.render(
        version=__version__,
        run=material.run,
        seed=_seed(material),
        summary=summary,
        stages=list(material.manifests),
        judges=JUDGES,
        verdict=verdict(summary["evaluation"]),
        gate=gate(summary["reward"]),
        answers=[answer_parts(row) for row in evenly(material.answers, examples)],
        answers_total=len(material.answers),
        dropped=per_reason(material.dropped),
        licences=material.licences,
        samples=_samples(material),
        charts=charts(material, summary),
        panels=panels(material),
        lineage=lineage(material),
        recipe={stage: _settings(material.settings(stage)) for stage in material.manifests},
        machine=_machine(material),
    )


def verdict(evaluation: Row) -> str:
    """One sentence on what the judges say about PPO, from their intervals."""
    intervals = {judge: interval_of((evaluation.get("win_rate_ci") or {}).get(judge)) for judge in JUDGES}
    known = {judge: interval for judge, interval in intervals.items() if interval is not None}
    if not known:
        return "The answers before and after PPO have not been compared in this run."
    better = [judge for judge, (low, _) in known.items() if low > 0.5]
    worse = [judge for judge, (_, high) in known.items() if high < 0.5]
    if len(better) == len(known):
        return f"PPO helped: {_all(len(known))} prefer its answers, beyond what chance explains."
    if len(worse) == len(known):
        return f"PPO did harm: {_all(len(known))} prefer the answers from before, beyond what chance explains."
    if not better and not worse:
        return "No judge sees a difference between before and after PPO that chance could not explain."
    return (
        f"The judges do not agree: {len(better)} of {len(known)} prefer PPO's answers beyond what chance explains, "
        f"{len(worse)} the ones from before."
    )


def gate(reward: Row) -> str:
    """One sentence on whether the reward model is fit to be followed."""
    interval, length = interval_of(reward.get("accuracy_ci")), number(reward.get("length_baseline"))
    if interval is None or length is None:
        return "The reward model has not been measured against its baselines in this run."
    if not beats_length(interval[0], length):
        return (
            f"Careful: the reward model is not clearly better than {trivial(length)}. What PPO gains may mean nothing."
        )
    ridge = number(reward.get("bag_of_words"))
    if ridge is None:
        return "The reward model is clearly better than judging by length alone."
    if interval[0] > ridge:
        return "The reward model is clearly better than length alone, and than word counts too."
    if interval[1] < ridge:
        return "The reward model is clearly better than length alone, but word counts still judge better."
    return "The reward model is clearly better than length alone, and about as good as word counts."


def charts(material: Material, summary: Row) -> dict[str, Any]:
    """{name: inline SVG or None}, all but PPO's small panels."""
    pretrain, ppo = material.series.get("pretrain", []), by_iteration(material.series.get("ppo", []))
    corpus = summary["corpus"]
    return {
        "funnel": plots.corpus_funnel(corpus["documents_kept"], corpus["dropped"] or {}),
        "loss": plots.training_loss(pretrain, "pretrain-loss"),
        "heldout": plots.heldout_curve(pretrain, material.expected),
        "sft": plots.training_loss(material.series.get("sft", []), "sft-loss", "step", "step"),
        "accuracy": plots.accuracy_bars(summary["reward"]),
        "calibration": plots.calibration_curve(material.calibration),
        "wins": plots.win_rates(summary["evaluation"], JUDGES),
        "frontier": plots.reward_against_kl(ppo, summary["ppo"]["chosen_step"]),
    }


def panels(material: Material) -> list[tuple[str, Any, str]]:
    """[(title, inline SVG, what it shows)] of PPO's course, those that have data."""
    rows, settings = by_iteration(material.series.get("ppo", [])), material.settings("ppo")
    targets = {"kl": number(settings.get("target_kl")) if settings.get("adaptive", True) else None}
    drawn = [
        (title, plots.ppo_panel(rows, f"ppo-{name}", title, keys, targets.get(name)), text)
        for name, title, text, keys in _PPO_PANELS
    ]
    return [(title, drawing, text) for title, drawing, text in drawn if drawing is not None]


def lineage(material: Material) -> list[Row]:
    """One row per stage: what it made, from what, when, in how long, with which code."""
    longest = max((number(manifest.get("seconds")) or 0.0 for manifest in material.manifests.values()), default=0.0)
    rows = []
    for stage, manifest in material.manifests.items():
        seconds = number(manifest.get("seconds")) or 0.0
        parents = manifest.get("parents") if isinstance(manifest.get("parents"), dict) else {}
        rows.append(
            {
                "stage": stage,
                "hash": str(manifest.get("content_hash") or ""),
                "parents": {name: str(value) for name, value in (parents or {}).items()},
                "seed": manifest.get("seed"),
                "code": manifest.get("code_version"),
                "finished": str(manifest.get("finished") or "")[:16].replace("T", " "),
                "attempts": manifest.get("attempts"),
                "seconds": seconds,
                "share": round(100 * seconds / longest, 1) if longest > 0 else 0,
                "memory": manifest.get("peak_memory_mb"),
            }
        )
    return rows


def _samples(material: Material) -> list[tuple[str, str]]:
    """(when, text) of what the model wrote on the way, or at the end where nothing was kept on the way."""
    rows = [row for row in material.series.get("pretrain", []) if isinstance(row.get("sample"), str)]
    if rows:
        shown = rows if len(rows) <= 6 else [rows[0], *evenly(rows[1:-1], 4), rows[-1]]
        return [(_when(row), row["sample"]) for row in shown]
    texts = material.metrics("pretrain").get("samples")
    return [("at the end", str(text)) for text in texts[:6]] if isinstance(texts, list) else []


def _when(row: Row) -> str:
    return f"after {wording.millions(row['tokens'])} tokens" if "tokens" in row else f"step {row['step']}"


def _seed(material: Material) -> Any:
    """The seed that most stages share, or a list where they differ, as text."""
    seeds = sorted({str(manifest["seed"]) for manifest in material.manifests.values() if "seed" in manifest})
    return ", ".join(seeds) or None


def _settings(settings: Row) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False, default=str)


def _machine(material: Material) -> str:
    """What the last finished stage ran on, in a line."""
    machines = [
        manifest["machine"] for manifest in material.manifests.values() if isinstance(manifest.get("machine"), dict)
    ]
    if not machines:
        return ""
    last = machines[-1]
    memory = number(last.get("memory_mb"))
    parts = [
        f"{last['cores']} cores" if last.get("cores") else "",
        f"{memory / 1000:.1f} GB memory" if memory else "",
        *(
            f"{name} {last[name]}" if name != "system" else str(last[name])
            for name in ("python", "torch", "system")
            if last.get(name)
        ),
    ]
    return ", ".join(part for part in parts if part)


def _all(judges: int) -> str:
    return "the one judge that was asked does" if judges == 1 else f"all {judges} judges"
