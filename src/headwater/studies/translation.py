"""Encoder-decoders: what must be copied and reversed, and a real translation.

The Transformer of 2017, its modern form and a recurrent rival with attention learn to copy and to reverse, and are asked
for sequences that they never saw. Where there is parallel text, they learn to translate it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from headwater.models.layout import load_model, save_with_tokenizer
from headwater.models.model import Model
from headwater.models.presets import DECODER_START
from headwater.objectives.sequence import SequenceToSequence
from headwater.settings import Count, Fraction
from headwater.settings import Settings as Section
from headwater.studies import transduction
from headwater.studies.encoder_decoders import FORMS, SizeSettings, average, build
from headwater.studies.findings import Claim, Findings, Plot, Table
from headwater.studies.parallel_text import LikeLengths, ParallelText, files, heldout_loss
from headwater.studies.study import TRIALS, Study, StudySettings
from headwater.studies.training import train
from headwater.studies.transduction import TASKS, TransductionSettings
from headwater.tasks.translation import score
from headwater.training.machine import prepare

EXACT = 0.99
"""Share of unseen sequences that a Transformer must copy and reverse without a mistake."""
BLEU = 15.0
"""Of translations, at least."""


class TextSettings(Section):
    """Parallel text, and how it is learnt. `$NAME` in a path is a variable of the environment."""

    source: str | None = Field(None, description="File with a sentence per line, plain or .gz. Absent: no translation.")
    target: str | None = Field(None, description="File with the translation of each line.")
    heldout_source: str | None = Field(None, description="Sentences that are measured, not learnt from.")
    heldout_target: str | None = None
    language: str = Field("de", description="Of the target; decides how BLEU cuts words.")
    forms: list[Literal["2017", "modern", "recurrent"]] = Field(["modern"], description="Which of them learn it.")
    vocabulary: Count = Field(4000, description="Tokens that both languages share.")
    size: SizeSettings = SizeSettings(layers=2, d_model=256, heads=4, dropout=0.1)
    context: Count = Field(128, description="Longest sentence in tokens; longer pairs are left out.")
    steps: Count = 600
    batch_tokens: Count = Field(4096, description="Tokens per step, of both languages, padding included.")
    label_smoothing: Fraction = 0.1
    beams: Count = 4
    length_penalty: float = Field(1.0, description="Exponent of the length that beam search divides by.")
    evaluate_every: Count = Field(150, description="Steps between two points of the learning curve.")
    evaluate_sentences: Count = Field(100, description="Held-out sentences that are translated for each point.")
    samples: Count = Field(6, description="Translations shown in the report.")

    @model_validator(mode="after")
    def _all_files_or_none(self) -> TextSettings:
        if len({path is None for path in self.files}) > 1:
            raise ValueError("give all of `source`, `target`, `heldout_source` and `heldout_target`, or none")
        return self

    @property
    def files(self) -> list[str | None]:
        """Source, target, held-out source and target."""
        return [self.source, self.target, self.heldout_source, self.heldout_target]


class Settings(StudySettings):
    """Settings of the study `translation`."""

    made_up: TransductionSettings = TransductionSettings()
    text: TextSettings = TextSettings()


def run(study: Study[Settings]) -> Findings:
    """Both parts; the second where there is parallel text."""
    settings = study.settings
    findings = Findings(
        f"Encoder-decoders learn to copy and to reverse sequences of {settings.made_up.shortest} to "
        f"{settings.made_up.longest} symbols, and answer others of the same lengths that they never saw, token by token, "
        "greedily, with their caches."
    )
    _report_made_up(study, findings)
    places = files(settings.text.files)
    if isinstance(places, str):
        findings.lead += f" Translation is left out: {places}."
        return findings
    findings.lead += " Then they learn to translate."
    text = ParallelText(places, settings.text.vocabulary, settings.text.context)
    trained: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    for form in settings.text.forms:
        trained[form] = study.trial(f"train-{form}", _training(study, text, form))
        answers[form] = study.trial(f"translate-{form}", _translating(study, text, form))
    _report_text(settings.text, text, findings, trained, answers)
    return findings


def _report_made_up(study: Study[Settings], findings: Findings) -> None:
    settings = study.settings.made_up
    results = {
        (task, form): study.trial(f"{task}-{form}", transduction.trial(settings, study.seed, task, form))
        for task in TASKS
        for form in FORMS
    }
    for form in ("2017", "modern"):
        least = min(results[task, form]["sequences"] for task in TASKS)
        findings.claims.append(
            Claim.at_least(
                f"Unseen sequences that the {form} form copies and reverses exactly: the lesser share", least, EXACT
            )
        )
    columns = ["Model", "parameters", *(f"{task}: {what}" for task in TASKS for what in ("sequences", "tokens"))]
    rows = [
        [form, results["copy", form]["parameters"]]
        + [results[task, form][what] for task in TASKS for what in ("sequences", "tokens")]
        for form in FORMS
    ]
    note = "Shares of held-out sequences without a mistake, and of their tokens in the right place."
    findings.tables.append(Table("Unseen sequences", columns, rows, note))
    findings.plots += [
        Plot(f"Learning to {task}", "step", "nats per token", {form: results[task, form]["losses"] for form in FORMS})
        for task in TASKS
    ]
    findings.figures["made_up"] = {
        task: {form: {what: results[task, form][what] for what in ("sequences", "tokens")} for form in FORMS}
        for task in TASKS
    }


def _training(study: Study[Settings], text: ParallelText, form: str) -> Callable[[Path], dict[str, Any]]:
    settings = study.settings.text

    def measure(folder: Path) -> dict[str, Any]:
        precision = prepare(folder, study.settings.threads, "auto")
        objective = SequenceToSequence(DECODER_START, settings.label_smoothing)
        batches = LikeLengths(text.rows(text.train, objective), study.seed, settings.batch_tokens)
        heldout = text.rows(text.heldout, objective)
        model = build(form, settings.size, text.tokenizer.vocabulary, settings.context, study.seed)

        def after_step(step: int, _metrics: dict[str, float]) -> dict[str, float]:
            line = {"tokens": float(batches(step - 1)[0].tokens)}
            if step % settings.evaluate_every == 0 or step == settings.steps:
                line["heldout_loss"] = heldout_loss(model, heldout, DECODER_START)
                line["bleu"] = _bleu(settings, text, model)
            return line

        lines = train(
            model,
            objective,
            batches,
            settings.steps,
            folder,
            FORMS[form].optimiser,
            FORMS[form].schedule,
            precision,
            average(form, settings.steps),
            after_step,
        )
        save_with_tokenizer(model, text.tokenizer, folder / "model", end=text.end, context=settings.context)
        tokens = sum(line["tokens"] for line in lines)
        seconds = sum(line["tokens"] / line["tokens_per_second"] for line in lines)
        return {
            "parameters": model.parameter_count(),
            "precision": precision,
            "epochs": settings.steps / batches.per_epoch,
            "tokens": tokens,
            "training_seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "losses": [(line["step"], line["loss"]) for line in lines if line["step"] % 20 == 1],
            "heldout": [(line["step"], line["heldout_loss"]) for line in lines if "heldout_loss" in line],
            "bleu": [(line["step"], line["bleu"]) for line in lines if "bleu" in line],
        }

    return measure


def _bleu(settings: TextSettings, text: ParallelText, model: Model) -> float:
    """Of greedy translations of the first held-out sentences."""
    pairs = text.heldout[: settings.evaluate_sentences]
    answers = text.translate(model, [pair.source for pair in pairs], 1, 0.0)
    return score(answers, [pair.target for pair in pairs], settings.language).bleu


def _translating(study: Study[Settings], text: ParallelText, form: str) -> Callable[[Path], dict[str, Any]]:
    settings = study.settings.text

    def measure(_folder: Path) -> dict[str, Any]:
        model = load_model(study.folder / TRIALS / f"train-{form}" / "model")
        sources, references = [pair.source for pair in text.heldout], [pair.target for pair in text.heldout]
        found: dict[str, Any] = {
            "heldout_loss": heldout_loss(
                model, text.rows(text.heldout, SequenceToSequence(DECODER_START)), DECODER_START
            )
        }
        for way, beams in (("greedy", 1), ("beam", settings.beams)):
            answers = text.translate(model, sources, beams, settings.length_penalty)
            found[way] = asdict(score(answers, references, settings.language))
            found[f"{way}_answers"] = [answers[place] for place in _shown(settings, text)]
        return found

    return measure


def _shown(settings: TextSettings, text: ParallelText) -> list[int]:
    """Places of the held-out sentences in the report, evenly spread."""
    count = min(settings.samples, len(text.heldout))
    return [index * len(text.heldout) // count for index in range(count)]


def _report_text(
    settings: TextSettings,
    text: ParallelText,
    findings: Findings,
    trained: dict[str, Any],
    answers: dict[str, Any],
) -> None:
    beam = f"beam {settings.beams}"
    for form in settings.forms:
        claim = f"BLEU of the {form} form's translations, {beam}"
        findings.claims.append(Claim.at_least(claim, answers[form]["beam"]["bleu"], BLEU))
    rows: list[list[str | float]] = []
    for form in settings.forms:
        scores = [answers[form][way][metric] for way in ("greedy", "beam") for metric in ("bleu", "chrf")]
        rows.append([form, trained[form]["parameters"], answers[form]["heldout_loss"], *scores])
    untouched = score([p.source for p in text.heldout], [p.target for p in text.heldout], settings.language)
    rows.append(["the source as it is", 0, "–", untouched.bleu, untouched.chrf, "–", "–"])
    columns = ["Model", "parameters", "nats per token", "BLEU greedy", "chrF greedy", f"BLEU {beam}", f"chrF {beam}"]
    note = f"{len(text.heldout):,} held-out sentences; {untouched.signature}."
    findings.tables.append(Table("Translations", columns, rows, note))
    names = ("precision", "epochs", "tokens", "training_seconds", "tokens_per_second")
    costs = [[form, *(trained[form][name] for name in names)] for form in settings.forms]
    columns = ["Model", "precision", "epochs", "tokens", "seconds", "tokens per second"]
    note = "Tokens of both languages, without padding; seconds of the training steps."
    findings.tables.append(Table("What training took", columns, costs, note))
    shown: list[list[str | float]] = []
    for index, place in enumerate(_shown(settings, text)):
        shown += [["source", text.heldout[place].source], ["reference", text.heldout[place].target]]
        shown += [[f"{form}, {beam}", answers[form]["beam_answers"][index]] for form in settings.forms]
    findings.tables.append(Table("Some translations", ["", ""], shown))
    findings.plots += [
        Plot(
            "Learning to translate",
            "step",
            "nats per token",
            {
                **{f"{form}, training (smoothed labels)": trained[form]["losses"] for form in settings.forms},
                **{f"{form}, held out": trained[form]["heldout"] for form in settings.forms},
            },
        ),
        Plot(
            f"BLEU on the way, greedy, first {settings.evaluate_sentences} held-out sentences",
            "step",
            "BLEU",
            {form: trained[form]["bleu"] for form in settings.forms},
        ),
    ]
    findings.figures["text"] = {form: {**trained[form], **answers[form]} for form in settings.forms}
    findings.figures["untranslated"] = asdict(untouched)
