"""Whole runs on a tiny model: dialogues, people who judge in a store, and a further round with a simulated annotator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

import dialogues
from dialogues import lines, recipe, requests
from headwater import outside, pipeline, rounds
from headwater.corpus.shares import share_of
from headwater.errors import UserError
from headwater.feedback.ranking_files import import_rankings
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, RESPONSE
from headwater.feedback.store.store import Store
from headwater.lineage import lineage
from headwater.recipe import validate
from headwater.rlhf.policies import PolicyOrigin
from headwater.runs import Run
from headwater.settings import apply_override
from headwater.stages.feedback import TASKS
from headwater.steps import STAGES

ASKED = {"prompts": 16, "responses": 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on comparisons."""
    folder = tmp_path_factory.mktemp("tiny")
    with Run(folder / "runs", "tiny") as run:
        pipeline.run_all(validate(recipe(folder), "test"), run)
    return run


def round_after(run: Run, *overrides: str, until: str = "evaluate") -> Run:
    data = rounds.next_round(run)
    for override in overrides:
        apply_override(data, override)
    found = validate(data, "test", overrides)
    with Run(run.folder.parent, found.run) as place:
        pipeline.run_all(found, place, until, run)
    return place


def metrics(run: Run, stage: str) -> dict:  # type: ignore[type-arg]
    manifest = run.manifest(stage)
    assert manifest is not None
    return manifest["metrics"]  # type: ignore[no-any-return]


def test_a_run_on_comparisons_goes_the_whole_way(tiny: Run) -> None:
    assert metrics(tiny, "reward")["accuracy"] > 0.8  # good words against bad ones
    assert metrics(tiny, "evaluate")["win_rate"].keys() == {"reward_model", "bag_of_words"}
    assert metrics(tiny, "evaluate")["compared_with"] == "tiny/sft"
    page = (tiny.folder / "report.html").read_text(encoding="utf-8")
    assert "The model answers requests" in page
    assert not [word for word in ("film", "shop", "opening", "Krippendorff") if word in page.split('id="settings"')[0]]
    answer = json.loads((tiny.stage("evaluate") / "answers.jsonl").read_text().splitlines()[0])
    assert "Tell me of the" in answer["prompt"]
    with Run(tiny.folder.parent, "tiny") as run:  # nothing to do
        before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != ".lock"}
        pipeline.run_all(validate(recipe(tiny.folder.parent.parent), "test"), run)
        assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != ".lock"} == before


def test_a_second_round_knows_who_wrote_and_who_judged(tiny: Run) -> None:
    second = round_after(
        tiny, "feedback.annotator=simulated:lexicon", "feedback.prompts=16", "feedback.responses=2",
        "round.weights=[0.5, 2]", "round.reference=sft",
    )  # fmt: skip
    assert second.name == "tiny-round-2"
    found = metrics(second, "feedback")
    assert found["policy"] == "tiny/ppo"
    assert found["annotators"]["simulated:lexicon"] == found["rankings_by_round"]["2"] > 0
    policy = PolicyOrigin(tiny.stage("ppo"), "tiny", "ppo")
    with Store(second.stage("feedback") / "feedback.db", read_only=True) as store:
        assert store.problems() == []
        with store.reading() as connection:
            written = connection.execute(select(RESPONSE).where(RESPONSE.c.model.is_not(None))).mappings().all()
            judged = connection.execute(
                select(JUDGEMENT.c.ranking, ANNOTATOR.c.name, ANNOTATOR.c.role)
                .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
                .where(JUDGEMENT.c.task_id.is_not(None))
            ).all()
    assert {row["model"] for row in written} == {policy.digest}
    assert {(row["sampling"]["run"], row["sampling"]["stage"], row["sampling"]["round"]) for row in written} == {
        ("tiny", "ppo", 2)
    }
    assert all(row["seed"] is not None for row in written)
    assert {(row.name, row.role) for row in judged} == {("simulated:lexicon", "simulated")}
    assert len(judged) == found["annotators"]["simulated:lexicon"]
    assert metrics(second, "evaluate")["compared_with"] == "tiny/ppo"
    ranked = metrics(second, "evaluate")["ranking"]
    assert ranked.keys() == metrics(second, "evaluate")["win_rate"].keys()
    for strengths in ranked.values():
        assert [each["policy"] for each in strengths] == ["tiny-round-2/sft", "tiny/ppo", "tiny-round-2/ppo"]
        assert (strengths[0]["strength"], strengths[0]["chance"]) == (0, 0.5)
        assert all(each["chance_ci"][0] <= each["chance"] <= each["chance_ci"][1] for each in strengths)
    assert "ranking" not in metrics(tiny, "evaluate"), "of two policies the win rate says the same"
    assert "ppo of tiny" in lineage(second)
    for stage in ("pretrain", "sft"):
        assert second.manifest(stage) == tiny.manifest(stage)
    data = rounds.next_round(second)
    assert (data["run"], data["round"]["of"], data["round"]["number"]) == ("tiny-round-3", "tiny-round-2", 3)


@pytest.mark.parametrize(
    ("share", "kind", "until", "refusal"),
    [
        ("prompt", "prompts", "evaluate", "No prompt falls to the share `prompt`"),
        ("select", "prompts", "ppo", "No prompt falls to the share `select`"),
        ("judge", "comparisons", "feedback", "There is no ranking of the share `judge`"),
        ("prompt", "prompts", "ppo", None),
        ("prompt", "comparisons", "evaluate", None),
    ],
)
def test_a_share_without_dialogues_is_told_before_anything_is_trained(
    tmp_path: Path, share: str, kind: str, until: str, refusal: str | None
) -> None:
    given = recipe(tmp_path)
    prompts = [{"prompt": request} for request in requests() if kind != "prompts" or share_of(request) != share]
    given["dialogues"]["prompts"] = str(lines(tmp_path / "prompts.jsonl", prompts))
    if kind == "comparisons":
        kept = [
            each
            for each, request in zip(dialogues.comparisons(), requests(), strict=True)
            if share_of(request) != share
        ]
        lines(tmp_path / "hh.jsonl", kept)
    found = validate(given, "test")
    with Run(tmp_path / "runs", "few") as run:
        pipeline.run_all(found, run, "samples")
        if refusal is None:
            outside.refuse_empty_shares(found, run, STAGES[: STAGES.index(until) + 1])
            return
        with pytest.raises(UserError, match=refusal):
            pipeline.run_all(found, run, until)
        assert not run.is_finished("corpus")


def test_a_round_that_nobody_judges_is_refused_before_anything_is_made(tiny: Run) -> None:
    with pytest.raises(UserError, match="Nobody judges what the policy of tiny answers"):
        round_after(tiny, "run=other")
    assert not list((tiny.folder.parent / "other").glob("[a-z]*"))
    with pytest.raises(UserError, match="no run `gone`"):
        round_after(tiny, "run=other", "round.of=gone")
    (tiny.folder.parent / "half").mkdir()
    (tiny.folder.parent / "half" / "recipe.yaml").write_bytes((tiny.folder / "recipe.yaml").read_bytes())
    with pytest.raises(UserError, match="has not finished `feedback`"):
        rounds.next_round(Run(tiny.folder.parent, "half"))


def test_people_judge_in_a_store_and_the_run_goes_on(tmp_path: Path) -> None:
    store, given = tmp_path / "judgements.db", recipe(tmp_path)
    (tmp_path / "prompts.txt").write_text("\n".join(requests()), encoding="utf-8")
    given["dialogues"] = {"demonstrations": [str(tmp_path / "hh.jsonl")], "prompts": str(tmp_path / "prompts.txt")}
    with pytest.raises(UserError, match="Nobody has compared answers"), Run(tmp_path / "runs", "own") as run:
        pipeline.run_all(validate(given, "test"), run)
    own = validate({**given, "feedback": {"store": str(store), **ASKED}}, "test")
    with Run(tmp_path / "runs", "own") as run:
        with pytest.raises(UserError, match=r"own/sft has answered 17 prompts.*share `train` in order yet \(8 tasks"):
            pipeline.run_all(own, run, "reward")
        tasks = [json.loads(line) for line in (run.folder / TASKS).read_text(encoding="utf-8").splitlines()]
        assert len(tasks) == 17
        ids = [[int(one) for one in task["answers"]] for task in tasks]
        tied = [
            {"annotator": "Ada", "task": task["task"], "ranking": [own]} for task, own in zip(tasks, ids, strict=True)
        ]
        import_rankings(str(store), lines(tmp_path / "tied.jsonl", tied))
        with pytest.raises(UserError, match="nobody has put answers of the share `train` in order yet"):
            pipeline.run_all(own, run, "reward")
        ranked = [{**each, "ranking": [[one] for one in each["ranking"][0]]} for each in tied]
        import_rankings(str(store), lines(tmp_path / "ranked.jsonl", ranked))
        pipeline.run_all(own, run, "reward")
        found = metrics(run, "feedback")
        assert found["annotators"] == {"Ada": 17}
        assert (found["all_tied"], found["policy"]) == (0, "own/sft")
        before = run.manifest("reward")
        pipeline.run_all(own, run, "reward")
        assert run.manifest("reward") == before
        # Somebody changes her mind: the reward model is made again.
        ranked[0]["ranking"].reverse()
        import_rankings(str(store), lines(tmp_path / "ranked.jsonl", ranked[:1]))
        pipeline.run_all(own, run, "feedback")
        assert (run.folder / "feedback.outdated-1").is_dir()


@pytest.mark.slow
def test_the_first_round_beats_sft_and_the_second_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SFT learns good and bad answers alike. Comparisons make the first round's answers better than SFT's, for judges that
    learnt from others; a second round on a simulated annotator's rankings makes them better still. Both have to choose a
    checkpoint and to win beyond what chance explains, on 60 prompts: a policy that is kept ties with itself.
    """
    monkeypatch.setattr(
        dialogues,
        "MANNERS",
        tuple(f"{a} {b}" for a in dialogues.MANNERS for b in ("now", "then", "here", "there", "please")),
    )
    given = recipe(tmp_path)
    both = [
        {"messages": [{"role": "user", "content": request}, {"role": "assistant", "content": said.format(thing)}]}
        for place, request in enumerate(requests())
        for thing in [dialogues.THINGS[place // len(dialogues.MANNERS)]]
        for said in (dialogues.GOOD[place % 3], dialogues.BAD[place % 3])
    ]
    given["dialogues"]["demonstrations"] = [str(lines(tmp_path / "both.jsonl", both))]
    given["pretrain"] |= {"tokens": 60_000, "optimiser": {"learning_rate": 2e-2}}
    given["sft"]["epochs"] = 8
    given["reward"]["epochs"] = 6
    given["ppo"] |= {
        "steps": 5, "episodes": 32, "epochs": 3, "max_new_tokens": 24, "evaluate_prompts": 24, "target_kl": 1.0,
        "kl_limit": 8.0, "beta": 0.03, "critic_warmup": 1, "policy_optimiser": {"learning_rate": 1.5e-3, "epsilon": 1e-5},
        "critic_optimiser": {"learning_rate": 2e-3, "epsilon": 1e-5},
    }  # fmt: skip
    given["evaluate"] = {"prompts": 60, "bootstrap": 300}
    with Run(tmp_path / "runs", "tiny") as first:
        pipeline.run_all(validate(given, "test"), first, "evaluate")
    second = round_after(
        first, "feedback.annotator=simulated:lexicon", "feedback.prompts=120", "feedback.responses=4", "ppo.steps=10"
    )
    found = metrics(first, "evaluate")
    assert found["win_rate_ci"].keys() == {"reward_model", "bag_of_words"}
    for run in (first, second):
        assert metrics(run, "ppo")["chosen_step"] > 0
        assert all(low > 0.5 for low, _ in metrics(run, "evaluate")["win_rate_ci"].values())
    for sft, one, two in metrics(second, "evaluate")["ranking"].values():
        assert sft["strength"] < one["strength"] < two["strength"]
