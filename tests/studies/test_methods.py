"""The study of methods, on a finished run that is as small as can be."""

from __future__ import annotations

import json

import pytest

from headwater.corpus.rated import read_rated
from headwater.corpus.tokenizer import train_tokenizer
from headwater.errors import UserError
from headwater.evaluation.bradley_terry import rank
from headwater.feedback.judgements import Judgement
from headwater.feedback.store.store import STORE, Store
from headwater.manifest import write_manifest
from headwater.models.layout import save_model
from headwater.objectives.supervised import Supervised
from headwater.recipe import load_recipe
from headwater.studies.findings import Findings
from headwater.studies.methods import run
from headwater.studies.methods_basis import NEEDED, SCORES, Basis
from headwater.studies.methods_ranking import ranked, read_scores
from headwater.studies.methods_report import BEST_OF_N, findings
from headwater.studies.methods_settings import Settings
from headwater.studies.methods_training import METHODS, budget, changed, passes_per_episode, within_budget
from headwater.studies.study import Study, trials_of
from headwater.tasks.continuation import learnt_texts
from headwater.training.engine import Engine
from headwater.training.source import Examples
from tiny import learner, tiny_model

WORDS = ("good", "bad", "fine", "dull", "film", "story", "cast", "plot")
RECIPE = """
run: base
threads: 1
corpus: {sources: [{samples: reviews}]}
pretrain: {model: {context: 64}}
sft: {instructions: {film-reviews: "Write."}, opening_words: [2, 2]}
ppo: {steps: 2, episodes: 8, epochs: 1, minibatches: 2, max_new_tokens: 16, evaluate_prompts: 6, critic_warmup: 0}
evaluate: {prompts: 8, bootstrap: 50}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """runs/base with the files that the study reads."""
    root = tmp_path_factory.mktemp("runs")
    base = root / "base"
    for stage in NEEDED:
        (base / stage).mkdir(parents=True)
    (base / "recipe.yaml").write_text(RECIPE)
    shares = ("train", "select", "judge", "prompt")
    lines = [
        {
            "id": str(index),
            "text": " ".join(WORDS[(index * step + step) % 8] for step in range(1, 5 + index % 3)),
            "source": "film-reviews",
            "share": shares[index % 4],
            "ratings": [index % 5 - 2],
        }
        for index in range(60)
    ]
    (base / "samples" / "reviews.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokenizer = train_tokenizer([line["text"] for line in lines], 276)
    recipe = load_recipe(base / "recipe.yaml")
    read = list(read_rated(base / "samples" / "reviews.jsonl", "train"))
    learnt = learnt_texts(read, recipe.sft.instructions, recipe.sft.opening_words, tokenizer)
    size = {"vocabulary": tokenizer.vocabulary}
    models = {
        "sft/model": (taught([text.row for text in learnt], size), {}),
        "reward/model": (tiny_model("reward", seed=2, **size), {"gain": 1.0, "bias": 0.1}),
        "reward/selection": (tiny_model("reward", seed=3, **size), {"gain": 1.0, "bias": 0.0}),
        "evaluate/judge": (tiny_model("reward", seed=4, **size), {}),
    }
    for place, (model, extra) in models.items():
        save_model(model, base / place, pad=tokenizer.pad, eos=tokenizer.end_of_turn, extra=extra)
        tokenizer.save(base / place, 64)
    write_manifest(base / "reward", {"metrics": {"sft_length": 5.0}})
    judged(base / "feedback", [line.text for line in read[:9]])
    write_manifest(base / "feedback", {"metrics": {}})
    return root


def judged(folder, texts):
    """A store with rankings of three texts each, longest first."""
    folder.mkdir(exist_ok=True)
    with Store(folder / STORE) as store:
        prompt = store.add_prompt([{"role": "user", "content": "Write a line."}], source="film-reviews", split="train")
        ids = {text: store.add_response(prompt, text) for text in texts}
        ada = store.add_annotator("Ada")
        for number in range(0, len(texts), 3):
            order = sorted(texts[number : number + 3], key=len, reverse=True)
            ranking = [[ids[text]] for text in order]
            store.judge(Judgement(kind="ranking", client_id=str(number), annotator=ada, prompt=prompt, ranking=ranking))


def taught(rows, size):
    """A policy whose answers mostly end."""
    model = tiny_model(**size)
    source = Examples([[row] for row in rows], seed=1, epochs=20, groups_per_update=15)
    Engine({"model": learner(model, learning_rate=1e-2)}, source, Supervised()).fit()
    return model


def settings(**changes):
    given = {"study": "methods", "of": "base", "seeds": 2, "measurements": 2, "best_of": 3}
    given["rloo"] = given["grpo"] = {"group": 2}
    given["overoptimisation"] = {"measurements": 2, "length": 1.0, "rankings": 2}
    return Settings.model_validate(given | changes)


def test_every_method_is_trained_and_measured_and_finished_trials_are_kept(root):
    study = Study(settings(), root / "methods")
    found = run(study)
    assert isinstance(found, Findings)
    trials = {trial["trial"]: trial["result"] for trial in trials_of(root / "methods")}
    assert set(trials) == {f"{name}-{seed}" for name in (*METHODS, BEST_OF_N) for seed in (1, 2)} | {"overoptimisation"}
    for name in METHODS:
        assert trials[f"{name}-1"]["curve"][0]["step"] == 0
        assert 2 <= len(trials[f"{name}-1"]["curve"]) <= 3
        assert trials[f"{name}-1"]["processor_seconds"] > 0
    comparison, ranks, ends = found.tables
    assert [row[0] for row in comparison.rows] == [*METHODS, BEST_OF_N]
    assert all(len(row) == len(table.columns) for table in found.tables for row in table.rows)
    assert ends.rows[1][1] == trials["overoptimisation"]["curve"][-1]["step"]
    assert {row[0] for row in ranks.rows} == {"SFT", *METHODS, BEST_OF_N}
    for judge, strengths in found.figures["ranking"].items():
        assert strengths[0] | {"policy": "SFT", "strength": 0.0, "chance_ci": [0.5, 0.5]} == strengths[0]
        kept = json.loads((root / "methods" / "trials" / "dpo-2" / SCORES).read_text())[judge]
        wins = [(new > old) + (new == old) / 2 for old, new in zip(kept["before"], kept["after"], strict=True)]
        assert sum(wins) / len(wins) == pytest.approx(trials["dpo-2"]["win_rate"][judge])
    before = (root / "methods" / "trials" / "ppo-1" / "manifest.json").read_bytes()
    assert run(study).summary() == found.summary()
    assert (root / "methods" / "trials" / "ppo-1" / "manifest.json").read_bytes() == before


def test_all_methods_get_the_same_compute(root):
    basis = Basis.of("base", root, root / "methods")
    given = settings(compute=10.0)
    assert passes_per_episode(basis.ppo) == 5 + 6
    assert budget(basis, given) == 10 * 2 * 8 * 11
    for ppo in (basis.ppo, changed(basis.ppo, {"estimator": "rloo", "group": 2})):
        fitted = within_budget(basis, given, ppo)
        spent = fitted.steps * fitted.episodes * passes_per_episode(fitted)
        assert spent == pytest.approx(budget(basis, given), rel=0.05)
    policy = basis.new_policy()
    rejection = METHODS["rejection"](basis, given, policy, 1).source
    own = given.rejection
    spent = rejection.plan.rounds * rejection.plan.prompts * (2 * own.answers + 3 * own.epochs)
    assert spent == pytest.approx(budget(basis, given), rel=0.05)


def test_a_run_that_is_not_finished_or_settings_that_do_not_fit_are_refused(root, tmp_path):
    with pytest.raises(UserError, match="no run `nowhere`"):
        Basis.of("nowhere", root, tmp_path)
    half = tmp_path / "half"
    (half / "samples").mkdir(parents=True)
    (half / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(UserError, match="has not finished `pretrain`"):
        Basis.of("half", tmp_path, tmp_path)
    with pytest.raises(UserError, match="multiple of `group`"):
        changed(load_recipe(half / "recipe.yaml").ppo, {"estimator": "rloo", "group": 3})


def point(step, **scores):
    return {"step": step, "kl": step**2} | scores


def test_the_report_has_the_judges_of_the_run():
    curve = [point(step, reward=0.0, selection_reward=0.0, gold=0.0) for step in (0, 1)]
    trial = {"win_rate": {"reward_model": 0.9, "bag_of_words": 0.8}}
    trial |= {"selection_reward": 1.0, "kl": 5.0, "distinct_2_ratio": 0.9, "length_ratio": 1.0}
    followed = {"curve": curve, "chosen_step": 1}
    table = findings(settings(), {"ppo": [trial, trial]}, followed, {}).tables[0]
    assert list(table.columns[:4]) == ["method", "win rate, reward model", "win rate, bag of words", "selection reward"]
    assert table.rows[0][1:4] == ["0.900 [0.900, 0.900]", "0.800 [0.800, 0.800]", 1.0]
    alone = [trial | {"win_rate": {"reward_model": 0.9}}]
    table = findings(settings(), {"ppo": alone}, followed, {}).tables[0]
    assert list(table.columns[:3]) == ["method", "win rate, reward model", "selection reward"]


def test_the_report_says_where_the_judge_falls_though_the_reward_rises():

    curve = [
        point(0, reward=0.0, selection_reward=0.0, gold=0.0),
        point(2, reward=1.0, selection_reward=0.8, gold=0.7),
        point(5, reward=2.5, selection_reward=0.4, gold=0.1),
    ]
    trial = {
        "win_rate": {"reward_model": 0.9, "bag_of_words": 0.8, "lexicon": 0.7},
        **{"selection_reward": 1.0, "kl": 5.0, "distinct_2_ratio": 0.9, "length_ratio": 1.0},
    }
    found = findings(settings(), {"ppo": [trial, trial]}, {"curve": curve, "chosen_step": 2}, {})
    assert [claim.holds for claim in found.claims] == [True, True, True]
    assert found.claims[2].value == pytest.approx(-0.6)
    assert found.plots[0].mark == 2
    assert found.plots[0].lines["judge"] == [(0, 0.0), (2, 0.7), (5, 0.1)]
    assert found.tables[0].rows[0][1] == "0.900 [0.900, 0.900]"
    assert found.tables[1].rows[0][:3] == ["chosen by the selection model", 2, 2.0]


def test_methods_are_ranked_with_all_their_seeds_and_without_those_whose_scores_an_older_version_did_not_keep(tmp_path):
    def trial(better):
        return {"lexicon": {"before": [0.0] * 4, "after": [1.0] * better + [-1.0] * (4 - better)}}

    assert read_scores(tmp_path) is None
    (tmp_path / SCORES).write_text(json.dumps(trial(3)))
    scores = {"ppo": [read_scores(tmp_path), trial(3)], "dpo": [trial(3), None], "rloo": [trial(1), trial(2)]}
    (strengths,) = ranked(scores, resamples=30).values()
    assert [each.policy for each in strengths] == ["SFT", "ppo", "rloo"]
    sft, ppo, rloo = strengths
    assert sft.strength == 0
    assert ppo.strength > max(0, rloo.strength)
    assert ppo.low <= ppo.strength <= ppo.high
    (alone,) = ranked({"ppo": scores["ppo"]}, resamples=30).values()
    assert alone[1].chance == pytest.approx(0.75)
    assert ranked({"dpo": scores["dpo"]}) == {}


def test_the_table_of_ranks_has_the_strongest_first():
    strengths = {
        judge: rank({"SFT": [0, 0, 0], "ppo": [1, 1, -1], "rloo": [1, -1, -1]}, resamples=30)
        for judge in ("reward_model", "lexicon")
    }
    curve = [{"step": step, "kl": 0.0, "reward": 0.0, "selection_reward": 0.0, "gold": 0.0} for step in (0, 1)]
    trial = {
        "win_rate": dict.fromkeys(("reward_model", "bag_of_words", "lexicon"), 0.5),
        **{"selection_reward": 1.0, "kl": 5.0, "distinct_2_ratio": 0.9, "length_ratio": 1.0},
    }
    report = findings(settings(), {"ppo": [trial]}, {"curve": curve, "chosen_step": 1}, strengths)
    table = report.tables[1]
    assert [row[0] for row in table.rows] == ["ppo", "SFT", "rloo"]
    assert all(len(row) == len(table.columns) == 4 for row in table.rows)
    assert table.rows[1][1:] == ["0.00 [0.00, 0.00]", "0.00 [0.00, 0.00]", "0.500"]
    assert report.summary()["figures"]["ranking"]["lexicon"][1]["policy"] == "ppo"
