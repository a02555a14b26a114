"""Stage 9: the policy before PPO against the one after it, on held-out prompts, by judges that PPO never saw."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headwater.corpus.tokenizer import Tokenizer
from headwater.evaluation.bradley_terry import rank
from headwater.evaluation.length_controlled import length_controlled_win_rate
from headwater.evaluation.perplexity import Text, prediction
from headwater.evaluation.text_metrics import length_ratio, lengths, mean_length, repetition, variety
from headwater.evaluation.win_rate import win_rate
from headwater.feedback.halves import Half, halved
from headwater.feedback.reader import Ranking
from headwater.feedback.store import Store
from headwater.models.answer import Answer
from headwater.models.layout import load_model, save_model
from headwater.models.model import Model
from headwater.rlhf.episodes import answers_to, kl_of_answers, log_probabilities_of, response_mask
from headwater.rlhf.policies import PolicyOrigin, policies_before, policy_before
from headwater.rlhf.reward_training import drop_checkpoints, train_reward_model
from headwater.rlhf.scoring import raw_scores
from headwater.runs import Stage
from headwater.stages.feedback import STORE
from headwater.storage import write_atomically
from headwater.tasks.registry import task_of
from headwater.tasks.task import Prompt, answer_text, fitting, some, whole
from headwater.training.machine import prepare
from headwater.training.precision import DTYPES


def run(stage: Stage) -> dict[str, Any]:
    """Writes answers.jsonl and judge/ (the judges' reward model); returns the figures of the comparison."""
    recipe = stage.recipe
    precision = prepare(stage.folder, recipe.threads, recipe.reward.precision)
    tokenizer = Tokenizer.load(stage.parent("sft") / "model")
    dtype = DTYPES[recipe.evaluate.precision]
    policies = {
        "before": load_model(policy_before(stage).model)[0].frozen(dtype),
        "after": load_model(stage.parent("ppo") / "model")[0].frozen(dtype),
    }
    given = heldout_prompts(stage, tokenizer)
    answers = {
        name: answer_all(stage, policy, given, tokenizer, f"answers {name}") for name, policy in policies.items()
    }
    texts = {
        name: [answer_text(prompt, answer, tokenizer) for prompt, answer in zip(given, found, strict=True)]
        for name, found in answers.items()
    }
    # Openings are the same on both sides, and no answer's merit.
    own = {name: [tokenizer.decode(answer.tokens) for answer in found] for name, found in answers.items()}
    write_answers(stage, given, answers, texts)
    judge = train_judge(stage, tokenizer, precision).frozen(dtype)
    older = {origin: answers_of(stage, origin, given, tokenizer) for origin in policies_before(stage)[:-1]}
    scores = judge_all(stage, given, texts | {str(origin): said for origin, said in older.items()}, tokenizer, judge)
    varied = variety(own["before"], own["after"], 2)
    drop_checkpoints(stage.folder / "judge-training")
    return {
        "prompts": len(given),
        "task": task_of(recipe, stage.parent("samples"), tokenizer).kind,
        "compared_with": str(policy_before(stage)),
        "round": recipe.round.number,
        **win_rates(scores, own, recipe.evaluate.bootstrap, stage.seed),
        **({"ranking": ranking(stage, list(older), scores)} if older else {}),
        "kl": kl_of(policies, answers["after"], recipe.ppo.temperature),
        "distinct_2_ratio": varied.ratio,
        "distinct_2_before": varied.before,
        "distinct_2_after": varied.after,
        "length_ratio": length_ratio(own["before"], own["after"]),
    } | {
        f"{measure}_{name}": value
        for name in policies
        for measure, value in _of_one(stage, policies[name], given, answers[name], own[name], tokenizer).items()
    }


def win_rates(
    scores: Mapping[str, Mapping[str, np.ndarray[Any, Any]]],
    texts: Mapping[str, Sequence[str]],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Of each judge, with intervals: as they are, and with the answers' length taken out; and the share of prompts that tie,
    each of which is half a win. scores: as `judge_all` gives them; texts: the answers without their openings, by policy."""
    long = {name: lengths(said) for name, said in texts.items()}
    plain, controlled = {}, {}
    for judge, pair in scores.items():
        plain[judge] = win_rate(pair["before"], pair["after"], resamples=resamples, seed=seed)
        controlled[judge] = length_controlled_win_rate(
            pair["before"], pair["after"], long["before"], long["after"], resamples=resamples, seed=seed
        )
    return {
        "win_rate": {judge: rate.rate for judge, rate in plain.items()},
        "win_rate_ci": {judge: [rate.low, rate.high] for judge, rate in plain.items()},
        "ties": {judge: rate.ties / rate.prompts for judge, rate in plain.items()},
        "length_controlled_win_rate": {judge: rate.rate for judge, rate in controlled.items()},
        "length_controlled_win_rate_ci": {judge: [rate.low, rate.high] for judge, rate in controlled.items()},
    }


def answers_of(stage: Stage, origin: PolicyOrigin, given: list[Prompt], tokenizer: Tokenizer) -> list[str]:
    """What an older policy answers, with the same seeds."""
    policy = load_model(origin.model)[0].frozen(DTYPES[stage.recipe.evaluate.precision])
    found = answer_all(stage, policy, given, tokenizer, f"answers of {origin}")
    return [answer_text(prompt, answer, tokenizer) for prompt, answer in zip(given, found, strict=True)]


def ranking(
    stage: Stage, older: list[PolicyOrigin], scores: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """{judge: strengths of all rounds' policies, SFT's first, which is 0}. older: all but the last two, of which the win rates
    are; scores: of their answers by name, and of those `before` and `after`."""
    names = {str(origin): str(origin) for origin in older}
    names |= {str(policy_before(stage)): "before", f"{stage.folder.parent.name}/ppo": "after"}
    return {
        judge: [
            strength.metrics()
            for strength in rank(
                {name: by_policy[key] for name, key in names.items()},
                resamples=stage.recipe.evaluate.bootstrap,
                seed=stage.seed,
            )
        ]
        for judge, by_policy in scores.items()
    }


def _of_one(
    stage: Stage, policy: Model, given: list[Prompt], answers: list[Answer], texts: list[str], tokenizer: Tokenizer
) -> dict[str, float]:
    """What is measured of one policy alone; `texts` are the answers without their openings. The perplexity is that of the
    answers to the pretrained model: what it thinks of texts that were written to please."""
    people = people_wrote(stage, tokenizer, policy.config.context)
    read = prediction(policy, people) if people else None
    return {
        "length": mean_length(texts),
        "ended": sum(answer.ended for answer in answers) / len(answers),
        "repetition": repetition(texts),
        "bits_per_byte": read.bits_per_byte["all"] if read else math.nan,
        "calibration_error": read.calibration.error if read else math.nan,
        "perplexity": perplexity_of(
            load_model(stage.parent("pretrain") / "model")[0].frozen(policy.dtype), given, texts, tokenizer
        ),
    }


def heldout_prompts(stage: Stage, tokenizer: Tokenizer) -> list[Prompt]:
    """Prompts that nothing was trained on."""
    found = fitting(task_of(stage.recipe, stage.parent("samples"), tokenizer), stage.recipe, "prompt")
    return some(found, stage.recipe.evaluate.prompts, stage.seed)


def answer_all(stage: Stage, policy: Model, given: list[Prompt], tokenizer: Tokenizer, label: str) -> list[Answer]:
    """One answer per prompt; the same seeds for every policy."""
    prompts = [prompt.ids for prompt in given]
    return answers_to(prompts, policy, stage.recipe.ppo, tokenizer, stage.seed, label)


def judge_all(
    stage: Stage, given: list[Prompt], texts: dict[str, list[str]], tokenizer: Tokenizer, judge: Model
) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Scores by judge and policy. The judges, of which `judge` is the reward model, learnt from the judges' share alone; the
    lexicon never learnt. Whoever judged the policies' answers in training is no judge here.
    """
    instructions = [prompt.instruction for prompt in given]
    others = [
        each
        for each in task_of(stage.recipe, stage.parent("samples"), tokenizer).judges(
            lambda: judges_rankings(stage), half_of_judges(stage)
        )
        if f"simulated:{each.name}" not in annotators_of(stage)
    ]
    return {
        "reward_model": {
            name: raw_scores(
                judge, [whole(prompt.conversation, text, tokenizer) for prompt, text in zip(given, found, strict=True)]
            ).numpy()
            for name, found in texts.items()
        },
        **{each.name: {name: each.score(instructions, found) for name, found in texts.items()} for each in others},
    }


def half_of_judges(stage: Stage) -> Half | None:
    """What of the judges' share is left where a simulated annotator learnt from the other half."""
    return "judge" if "simulated:judge" in annotators_of(stage) else None


def annotators_of(stage: Stage) -> dict[str, int]:
    """{name: rankings} of whoever judged answers of policies, in this round or an earlier one."""
    return stage.metrics_of("feedback").get("annotators", {})  # type: ignore[no-any-return]


def judges_rankings(stage: Stage) -> list[Ranking]:
    """What the judges learn from."""
    with Store(stage.parent("feedback") / STORE, read_only=True) as store:
        return halved(list(store.rankings("judge")), half_of_judges(stage))


def train_judge(stage: Stage, tokenizer: Tokenizer, precision: str) -> Model:
    """A reward model from the pretrained weights (not the SFT policy's), on the judges' rankings."""
    pretrained, _ = load_model(stage.parent("pretrain") / "model")
    judge = train_reward_model(
        pretrained,
        judges_rankings(stage),
        tokenizer,
        stage.recipe.reward,
        seed=stage.seed + 1,
        folder=stage.folder / "judge-training",
        label="judge",
        precision=precision,
        tensorboard=stage.recipe.tensorboard,
    )
    save_model(judge, stage.folder / "judge", pad=tokenizer.pad, eos=tokenizer.end_of_turn)
    tokenizer.save(stage.folder / "judge", judge.config.context)
    return judge


def kl_of(policies: dict[str, Model], answers: list[Answer], temperature: float) -> float:
    """Mean over the answers of Σ(log π − log π_ref) at the rollout temperature, in nats."""
    own, theirs = (log_probabilities_of(policies[name], answers, temperature) for name in ("after", "before"))
    return float(kl_of_answers(own, theirs, response_mask(answers)).mean())


def perplexity_of(model: Model, given: list[Prompt], texts: list[str], tokenizer: Tokenizer) -> float:
    """exp(−mean log-probability of a token) of texts that follow their openings, read as plain text: a pretrained model
    need not know dialogues. Empty ones are left out; nan where all are."""
    read = [
        Answer([tokenizer.end_of_text, *tokenizer.encode(prompt.opening)], tokens)
        for prompt, text in zip(given, texts, strict=True)
        if (tokens := tokenizer.encode(text))
    ]
    if not read:
        return math.nan
    mask = response_mask(read)
    return float((-(log_probabilities_of(model, read, 1.0) * mask).sum() / mask.sum()).exp())


def people_wrote(stage: Stage, tokenizer: Tokenizer, context: int) -> list[Text]:
    """What people wrote in held-out dialogues, the end of the turn included: so many texts as answers are asked for."""
    found = task_of(stage.recipe, stage.parent("samples"), tokenizer).demonstrations("prompt")
    return some([text for text in found if len(text.row) <= context], stage.recipe.evaluate.prompts, stage.seed)


def write_answers(
    stage: Stage, given: list[Prompt], answers: dict[str, list[Answer]], texts: dict[str, list[str]]
) -> None:
    """answers.jsonl: every held-out prompt (of an answer that is begun, its opening) with both answers."""
    lines = [
        {
            "prompt": prompt.opening or prompt.instruction,
            "instruction": prompt.instruction,
            "opened": bool(prompt.opening),
            "before": texts["before"][index],
            "after": texts["after"][index],
            "before_ended": answers["before"][index].ended,
            "after_ended": answers["after"][index].ended,
        }
        for index, prompt in enumerate(given)
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(stage.folder / "answers.jsonl", content)
