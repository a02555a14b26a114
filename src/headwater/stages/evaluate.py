"""Stage 9: SFT against PPO on held-out openings, by judges that PPO never saw."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from headwater.corpus.samples import set_of
from headwater.corpus.tokenizer import Tokenizer
from headwater.evaluation.judges import BagOfWordsJudge, ChineseLexiconJudge, Judge, LexiconJudge
from headwater.evaluation.length_controlled import length_controlled_win_rate
from headwater.evaluation.perplexity import Text, bits_per_byte, next_token_calibration
from headwater.evaluation.text_metrics import length_ratio, lengths, mean_length, repetition, variety
from headwater.evaluation.win_rate import win_rate
from headwater.feedback.store import Store
from headwater.models.generate import Answer, Sampling, generate
from headwater.models.layout import load_model, save_model
from headwater.models.model import Model
from headwater.rlhf.reward_training import drop_checkpoints, train_reward_model
from headwater.rlhf.rollouts import log_probabilities_of, response_mask
from headwater.rlhf.scoring import raw_scores
from headwater.runs import Stage
from headwater.stages.feedback import STORE
from headwater.stages.samples import SENTIMENT_WORDS
from headwater.storage import write_atomically
from headwater.tasks.continuation import Opening, answer_text, learnt_texts, openings, read_lines, some, whole
from headwater.training.machine import prepare
from headwater.training.precision import DTYPES


def run(stage: Stage) -> dict[str, Any]:
    """Writes answers.jsonl and judge/ (the judges' reward model); returns the figures of the comparison."""
    recipe = stage.recipe
    precision = prepare(stage.folder, recipe.threads, recipe.reward.precision)
    tokenizer = Tokenizer.load(stage.parent("sft") / "model")
    dtype = DTYPES[recipe.evaluate.precision]
    policies = {
        "before": load_model(stage.parent("sft") / "model")[0].frozen(dtype),
        "after": load_model(stage.parent("ppo") / "model")[0].frozen(dtype),
    }
    given = heldout_openings(stage, tokenizer)
    answers = {
        name: answer_all(stage, policy, given, tokenizer, f"answers {name}") for name, policy in policies.items()
    }
    texts = {
        name: [answer_text(opening, answer, tokenizer) for opening, answer in zip(given, found, strict=True)]
        for name, found in answers.items()
    }
    # The openings are the same on both sides, and no answer's merit.
    own = {name: [tokenizer.decode(answer.tokens) for answer in found] for name, found in answers.items()}
    write_answers(stage, given, answers, texts)
    scores = judge_all(stage, given, texts, tokenizer, train_judge(stage, tokenizer, precision))
    rates = {
        name: win_rate(pair["before"], pair["after"], resamples=recipe.evaluate.bootstrap, seed=stage.seed)
        for name, pair in scores.items()
    }
    long = {name: lengths(said) for name, said in own.items()}
    controlled = {
        name: length_controlled_win_rate(
            pair["before"],
            pair["after"],
            long["before"],
            long["after"],
            resamples=recipe.evaluate.bootstrap,
            seed=stage.seed,
        )
        for name, pair in scores.items()
    }
    varied = variety(own["before"], own["after"], 2)
    drop_checkpoints(stage.folder / "judge-training")
    return {
        "prompts": len(given),
        "win_rate": {name: rate.rate for name, rate in rates.items()},
        "win_rate_ci": {name: [rate.low, rate.high] for name, rate in rates.items()},
        "length_controlled_win_rate": {name: rate.rate for name, rate in controlled.items()},
        "length_controlled_win_rate_ci": {name: [rate.low, rate.high] for name, rate in controlled.items()},
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


def _of_one(
    stage: Stage, policy: Model, given: list[Opening], answers: list[Answer], texts: list[str], tokenizer: Tokenizer
) -> dict[str, float]:
    """What is measured of one policy alone; `texts` are the answers without their openings. The perplexity is that of the
    answers to the pretrained model: what it thinks of texts that were written to please."""
    people = heldout_texts(stage, tokenizer, policy.config.context)
    return {
        "length": mean_length(texts),
        "ended": sum(answer.ended for answer in answers) / len(answers),
        "repetition": repetition(texts),
        "bits_per_byte": bits_per_byte(policy, people)["all"],
        "calibration_error": next_token_calibration(policy, people).error,
        "perplexity": perplexity_of(
            load_model(stage.parent("pretrain") / "model")[0].frozen(policy.dtype), given, texts, tokenizer
        ),
    }


def heldout_openings(stage: Stage, tokenizer: Tokenizer) -> list[Opening]:
    """Openings of sentences that nothing was trained on."""
    sft = stage.recipe.sft
    lines = read_lines(stage.parent("samples") / "reviews.jsonl", "prompt")
    found = openings(lines, sft.instructions, sft.opening_words, tokenizer)
    return some(found, stage.recipe.evaluate.prompts, stage.seed)


def answer_all(stage: Stage, policy: Model, given: list[Opening], tokenizer: Tokenizer, label: str) -> list[Answer]:
    """One answer per opening; the same seeds for every policy."""
    recipe = stage.recipe
    sampling = Sampling(recipe.ppo.max_new_tokens, recipe.ppo.temperature, stop_tokens=(tokenizer.end_of_turn,))
    seeds = [stage.seed * 1_000_003 + index for index in range(len(given))]
    return generate(policy, [opening.ids for opening in given], sampling, seeds, label=label)


def judge_all(
    stage: Stage, given: list[Opening], texts: dict[str, list[str]], tokenizer: Tokenizer, judge: Model
) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Scores by judge and policy. The judges, of which `judge` is the reward model, learnt from sentences of their own; the
    lexicon never learnt."""
    instructions = [opening.instruction for opening in given]
    lines = read_lines(stage.parent("samples") / "reviews.jsonl", "judge")
    bag = BagOfWordsJudge([line.text for line in lines], [line.mean for line in lines])
    lexicon = lexicon_judge(stage, set_of(lines[0].source).language)
    return {
        "reward_model": {
            name: raw_scores(
                judge, [whole(said, text, tokenizer) for said, text in zip(instructions, found, strict=True)]
            ).numpy()
            for name, found in texts.items()
        },
        "bag_of_words": {name: bag.score(instructions, found) for name, found in texts.items()},
        "lexicon": {name: lexicon.score(instructions, found) for name, found in texts.items()},
    }


def lexicon_judge(stage: Stage, language: str) -> Judge:
    """The word list of the answers' language."""
    if language == "zh":
        return ChineseLexiconJudge.read(stage.parent("samples") / SENTIMENT_WORDS)
    return LexiconJudge()


def train_judge(stage: Stage, tokenizer: Tokenizer, precision: str) -> Model:
    """A reward model from the pretrained weights (not the SFT policy's), on the judges' sentences."""
    pretrained, _ = load_model(stage.parent("pretrain") / "model")
    with Store(stage.parent("feedback") / STORE, read_only=True) as store:
        rankings = list(store.rankings("judge"))
    judge = train_reward_model(
        pretrained,
        rankings,
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
    return float(((own - theirs) * response_mask(answers)).sum(dim=1).mean())


def perplexity_of(model: Model, given: list[Opening], texts: list[str], tokenizer: Tokenizer) -> float:
    """exp(−mean log-probability of a token) of texts that follow their openings, read as plain text: a pretrained model
    need not know dialogues. Empty ones are left out; nan where all are."""
    read = [
        Answer([tokenizer.end_of_text, *tokenizer.encode(opening.text)], tokens)
        for opening, text in zip(given, texts, strict=True)
        if (tokens := tokenizer.encode(text))
    ]
    mask = response_mask(read)
    return float((-(log_probabilities_of(model, read, 1.0) * mask).sum() / mask.sum()).exp()) if read else math.nan


def heldout_texts(stage: Stage, tokenizer: Tokenizer, context: int) -> list[Text]:
    """What people wrote after held-out openings, the end of the turn included: so many texts as answers are asked for."""
    sft = stage.recipe.sft
    lines = read_lines(stage.parent("samples") / "reviews.jsonl", "prompt")
    found = learnt_texts(lines, sft.instructions, sft.opening_words, tokenizer)
    fitting = [text for text in found if len(text.row) <= context]
    return some(fitting, stage.recipe.evaluate.prompts, stage.seed)


def write_answers(
    stage: Stage, given: list[Opening], answers: dict[str, list[Answer]], texts: dict[str, list[str]]
) -> None:
    """answers.jsonl: every held-out opening with both answers."""
    lines = [
        {
            "prompt": opening.text,
            "instruction": opening.instruction,
            "before": texts["before"][index],
            "after": texts["after"][index],
            "before_ended": answers["before"][index].ended,
            "after_ended": answers["after"][index].ended,
        }
        for index, opening in enumerate(given)
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(stage.folder / "answers.jsonl", content)
