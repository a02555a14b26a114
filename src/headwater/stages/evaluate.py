"""Stage 9: the policy before PPO against the one after it, on held-out prompts, by judges that PPO never saw."""

from __future__ import annotations

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
from headwater.feedback.annotator_names import SIMULATED
from headwater.feedback.halves import Half, halved
from headwater.feedback.store.reader import Ranking
from headwater.feedback.store.store import STORE, Store
from headwater.models.answer import Answer
from headwater.models.layout import load_model, save_with_tokenizer
from headwater.models.model import Model
from headwater.rlhf.episodes import answers_to, log_probabilities_of, mean_kl, response_mask
from headwater.rlhf.judging import JudgePanel
from headwater.rlhf.policies import PolicyOrigin, policies_before, policy_before
from headwater.rlhf.reward_training import train_reward_model
from headwater.runs import Stage
from headwater.storage import write_json_lines
from headwater.tasks.registry import task_of
from headwater.tasks.task import Prompt, answer_text, prompts_that_fit, sample
from headwater.training import checkpoint
from headwater.training.machine import prepare
from headwater.training.precision import DTYPES


def run(stage: Stage) -> dict[str, Any]:
    """Writes answers.jsonl and judge/ (the judges' reward model); returns the figures of the comparison."""
    recipe = stage.recipe
    precision = prepare(stage.folder, recipe.threads, recipe.reward.precision)
    tokenizer = Tokenizer.load(stage.parent("sft") / "model")
    dtype = DTYPES[recipe.evaluate.precision]
    policies = {
        "before": load_model(policy_before(stage).model).frozen(dtype),
        "after": load_model(stage.parent("ppo") / "model").frozen(dtype),
    }
    given = heldout_prompts(stage, tokenizer)
    prompts = [prompt.ids for prompt in given]
    answers = {  # with the same seeds for both
        name: answers_to(prompts, policy, recipe.ppo, tokenizer, stage.seed, f"answers {name}")
        for name, policy in policies.items()
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
    of_all = texts | {str(origin): said for origin, said in older.items()}
    scores = panel_of(stage, judge, tokenizer).scores(given, of_all)
    varied = variety(own["before"], own["after"], 2)
    pretrained = load_model(stage.parent("pretrain") / "model").frozen(dtype)
    people = people_wrote(stage, tokenizer, min(policy.config.context for policy in policies.values()))
    checkpoint.drop(stage.folder / "judge-training")
    return {
        "prompts": len(given),
        "task": task_of(recipe, stage.parent("samples"), tokenizer).kind,
        "compared_with": str(policy_before(stage)),
        "round": recipe.round.number,
        **win_rates(scores, own, recipe.evaluate.bootstrap, stage.seed),
        **({"ranking": ranking(stage, list(older), scores)} if older else {}),
        "kl": mean_kl(policies["after"], policies["before"], answers["after"], recipe.ppo.temperature),
        "distinct_2_ratio": varied.ratio,
        "distinct_2_before": varied.before,
        "distinct_2_after": varied.after,
        "length_ratio": length_ratio(own["before"], own["after"]),
    } | {
        f"{measure}_{name}": value
        for name in policies
        for measure, value in _of_one(
            policies[name], pretrained, people, given, answers[name], own[name], tokenizer
        ).items()
    }


def win_rates(
    scores: Mapping[str, Mapping[str, np.ndarray[Any, Any]]],
    texts: Mapping[str, Sequence[str]],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Of each judge, with intervals: as they are, and with the answers' length taken out; and the share of prompts that tie,
    each of which is half a win. scores: as `JudgePanel` gives them; texts: the answers without their openings, by policy."""
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
    policy = load_model(origin.model).frozen(DTYPES[stage.recipe.evaluate.precision])
    prompts = [prompt.ids for prompt in given]
    found = answers_to(prompts, policy, stage.recipe.ppo, tokenizer, stage.seed, f"answers of {origin}")
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
    policy: Model,
    pretrained: Model,
    people: Sequence[Text],
    given: list[Prompt],
    answers: list[Answer],
    texts: list[str],
    tokenizer: Tokenizer,
) -> dict[str, float]:
    """What is measured of one policy alone; `people` is what they wrote, and `texts` are the answers without their openings.
    The perplexity is that of the answers to the pretrained model: what it thinks of texts that were written to please."""
    read = prediction(policy, people) if people else None
    return {
        "length": mean_length(texts),
        "ended": sum(answer.ended for answer in answers) / len(answers),
        "repetition": repetition(texts),
        "bits_per_byte": read.bits_per_byte["all"] if read else math.nan,
        "calibration_error": read.calibration.error if read else math.nan,
        "perplexity": perplexity_of(pretrained, given, texts, tokenizer),
    }


def heldout_prompts(stage: Stage, tokenizer: Tokenizer) -> list[Prompt]:
    """Prompts that nothing was trained on."""
    found = task_of(stage.recipe, stage.parent("samples"), tokenizer).prompts("prompt")
    return sample(prompts_that_fit(found, stage.recipe, "prompt"), stage.recipe.evaluate.prompts, stage.seed)


def panel_of(stage: Stage, judge: Model, tokenizer: Tokenizer) -> JudgePanel:
    """The judges, of which `judge` is the reward model. Whoever judged the policies' answers in training is no judge here."""
    task = task_of(stage.recipe, stage.parent("samples"), tokenizer)
    found = task.judges(lambda: judges_rankings(stage), half_of_judges(stage))
    return JudgePanel(
        judge, tokenizer, [each for each in found if f"{SIMULATED}{each.name}" not in annotators_of(stage)]
    )


def half_of_judges(stage: Stage) -> Half | None:
    """What of the judges' share is left where a simulated annotator learnt from the other half."""
    return "judge" if f"{SIMULATED}judge" in annotators_of(stage) else None


def annotators_of(stage: Stage) -> dict[str, int]:
    """{name: rankings} of whoever judged answers of policies, in this round or an earlier one."""
    return stage.metrics_of("feedback").get("annotators", {})  # type: ignore[no-any-return]


def judges_rankings(stage: Stage) -> list[Ranking]:
    """What the judges learn from."""
    with Store(stage.parent("feedback") / STORE, read_only=True) as store:
        return halved(list(store.rankings("judge")), half_of_judges(stage))


def train_judge(stage: Stage, tokenizer: Tokenizer, precision: str) -> Model:
    """A reward model from the pretrained weights (not the SFT policy's), on the judges' rankings."""
    pretrained = load_model(stage.parent("pretrain") / "model")
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
    save_with_tokenizer(judge, tokenizer, stage.folder / "judge", end=tokenizer.end_of_turn)
    return judge


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
    return sample([text for text in found if len(text.row) <= context], stage.recipe.evaluate.prompts, stage.seed)


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
    write_json_lines(stage.folder / "answers.jsonl", lines)
