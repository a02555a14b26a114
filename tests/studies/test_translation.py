"""The study of encoder-decoders, small: what is learnt, what is left out, and the batches of parallel text."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.models.heads import IGNORED
from headwater.models.layout import load_model
from headwater.objectives.sequence import SequenceToSequence
from headwater.studies.conduct import conduct
from headwater.studies.encoder_decoders import FORMS, SizeSettings, average, build
from headwater.studies.parallel_text import LikeLengths, ParallelText, files, heldout_loss
from headwater.studies.transduction import TransductionSettings, exact, trial
from headwater.studies.translation import TextSettings
from headwater.tasks.synthetic import END, Example

EASY = TransductionSettings(symbols=8, shortest=2, longest=4, examples=60, steps=250, rows=24)
SMALL = SizeSettings(layers=1, d_model=16, heads=2)
PLACES = {"source": "train.en", "target": "train.de", "heldout_source": "val.en", "heldout_target": "val.de"}
WORDS = {"a": "ein", "the": "der", "dog": "Hund", "man": "Mann", "red": "rote", "runs": "läuft", "sits": "sitzt"}


@pytest.fixture
def parallel(tmp_path):
    """Word-by-word translations: 400 to learn from and 12 held out, one sentence a line."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 6, (412,), generator=generator).tolist()
    english = list(WORDS)
    sentences = [[english[i] for i in torch.randint(7, (n,), generator=generator).tolist()] for n in lengths]
    for name, part in (("train", sentences[:400]), ("val", sentences[400:])):
        (tmp_path / f"{name}.en").write_text("".join(" ".join(s) + ".\n" for s in part), encoding="utf-8")
        translated = [" ".join(WORDS[word] for word in sentence) for sentence in part]
        (tmp_path / f"{name}.de").write_text("".join(s + ".\n" for s in translated), encoding="utf-8")
    return tmp_path


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    lines = [
        "study: translation",
        "threads: 1",
        "made_up: {steps: 2, rows: 4, examples: 8, size: {layers: 1, d_model: 16}}",
    ]
    path.write_text("\n".join([*lines, "text:", *(f"  {key}: $PAIRS/{name}" for key, name in PLACES.items())]) + "\n")
    return path


@pytest.mark.parametrize(("task", "form"), [("reverse", "modern"), ("copy", "2017"), ("copy", "recurrent")])
def test_unseen_sequences_are_copied_and_reversed(tmp_path, task, form):
    result = trial(EASY, 1, task, form)(tmp_path)
    assert result["sequences"] >= 0.9
    assert result["tokens"] >= result["sequences"]
    assert result["losses"][-1][1] < result["losses"][0][1]


def test_exactness_counts_whole_sequences_and_tokens_in_their_places(monkeypatch):
    examples = [Example((5, 6), (5, 6), (2, 2)), Example((7,), (7,), (1,)), Example((8, 9), (8, 9), (2, 2))]
    said = [[5, 6, END], [7, 7], [9, 8, END, END]]

    class Said:
        def __init__(self, tokens):
            self.tokens = tokens

    monkeypatch.setattr("headwater.studies.transduction.generate", lambda *_, **__: [Said(tokens) for tokens in said])
    assert exact(None, examples, 4) == (1 / 3, 5 / 8)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_what_it_says(form):
    model = build(form, SMALL, 30, 12, 1)
    assert model.config.form == "encoder-decoder"
    assert model.config.decoder_start == 0
    assert torch.equal(build(form, SMALL, 30, 12, 1).backbone.embedding.weight, model.backbone.embedding.weight)
    kinds = {"2017": ("post", "sinusoidal", "layer", False), "modern": ("pre", "rotary", "rms", True)}
    if form in kinds:
        config = model.config
        assert (config.norm_place, config.positions, config.norm, config.gated) == kinds[form]
    assert (average(form, 100) is not None) == (form == "2017")
    average(form, 1)  # as short a training as there is


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(18, 60),
    st.integers(0, 5),
)
def test_every_epoch_has_every_row_once_within_the_budget(lengths, budget, seed):
    objective = SequenceToSequence(0)
    rows = [objective.pair([n + 1] * source, [n + 1] * target) for n, (source, target) in enumerate(lengths)]
    batches = LikeLengths(rows, seed, budget)
    for epoch in range(3):
        seen = []
        for place in range(batches.per_epoch):
            (batch,) = batches(epoch * batches.per_epoch + place)
            assert batch.ids.numel() + batch.source.numel() <= budget
            seen += batch.source[:, 0].tolist()
        assert sorted(seen) == list(range(1, len(rows) + 1))
    again = LikeLengths(rows, seed, budget)
    step = 2 * batches.per_epoch
    assert torch.equal(again(step)[0].ids, batches(step)[0].ids)  # a function of the step alone


def test_rows_of_one_length_meet_others_in_the_next_epoch():
    rows = [SequenceToSequence(0).pair([n, n], [n, n]) for n in range(40)]
    batches = LikeLengths(rows, 1, 32)
    epochs = [
        {frozenset(batches(epoch * batches.per_epoch + n)[0].source[:, 0].tolist()) for n in range(batches.per_epoch)}
        for epoch in range(2)
    ]
    assert epochs[0] != epochs[1]


def test_the_held_out_loss_is_torch_s_mean(parallel):
    text = ParallelText([parallel / name for name in PLACES.values()], 280, 24)
    rows = text.rows(text.heldout, SequenceToSequence(0))
    assert rows[0].per_token["targets"][-1] == rows[0].source[-1] == text.tokenizer.eos
    model = build("modern", SizeSettings(layers=1, d_model=16, heads=2, dropout=0.5), 280, 24, 1).train()
    found = heldout_loss(model, rows, 0, rows_per_batch=5)
    assert model.training
    model.eval()
    with torch.no_grad():
        losses = torch.cat(
            [
                torch.nn.functional.cross_entropy(
                    model(row.source[None], row.ids[None])[0], row.per_token["targets"], reduction="none"
                )
                for row in rows
            ]
        )
    assert found == pytest.approx(float(losses.mean()), rel=1e-5)
    assert IGNORED not in rows[0].per_token["targets"]


def test_pairs_that_are_too_long_are_left_out(parallel):
    text = ParallelText([parallel / name for name in PLACES.values()], 280, 5)
    rows = text.rows(text.train, SequenceToSequence(0))
    assert 0 < len(rows) < len(text.train)
    assert max(max(len(row.source), len(row.ids)) for row in rows) <= 5
    text.context = 1
    with pytest.raises(UserError, match=r"`text\.context` larger"):
        text.rows(text.train, SequenceToSequence(0))
    text.context = 5  # sources are cut, answers end at the limit
    model = build("modern", SMALL, 280, 5, 1)
    assert len(text.translate(model, [pair.source for pair in text.heldout], 2, 1.0)) == 12


def test_a_word_by_word_translation_is_learnt_and_reported(parallel, recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("PAIRS", str(parallel))
    dials = ["vocabulary=290", "steps=300", "context=24", "batch_tokens=400", "evaluate_every=150", "size.d_model=32"]
    more = ["size.layers=1", "size.dropout=0.0", "forms=[modern]"]
    told = conduct(recipe, [f"text.{dial}" for dial in [*dials, *more]], tmp_path / "runs")
    assert "holds  BLEU of the modern form's translations, beam 4" in told
    summary = json.loads((tmp_path / "runs" / "translation" / "summary.json").read_text(encoding="utf-8"))
    found = summary["figures"]["text"]["modern"]
    assert found["beam"]["bleu"] > 60
    assert found["greedy"]["chrf"] > 60
    assert found["heldout"][-1][1] < found["heldout"][0][1]
    assert [step for step, _ in found["bleu"]] == [150, 300]
    assert summary["figures"]["untranslated"]["bleu"] < 15
    assert set(summary["figures"]["made_up"]["copy"]) == set(FORMS)
    page = (tmp_path / "runs" / "translation" / "report.html").read_text(encoding="utf-8")
    assert "Some translations" in page
    model = load_model(tmp_path / "runs" / "translation" / "trials" / "train-modern" / "model")
    assert model.config.vocabulary == 290


def test_without_data_translation_is_left_out_and_the_report_says_so(recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("PAIRS", raising=False)
    conduct(recipe, [], tmp_path / "runs")
    summary = json.loads((tmp_path / "runs" / "translation" / "summary.json").read_text(encoding="utf-8"))
    assert summary["lead"].endswith("Translation is left out: PAIRS is not set in the environment.")
    assert "text" not in summary["figures"]
    assert len(summary["trials"]) == 6


def test_where_the_files_are(tmp_path, monkeypatch):
    monkeypatch.setenv("PAIRS", str(tmp_path))
    assert files([None] * 4) == "no parallel text is named"
    assert files(["$PAIRS/a.en"] * 4) == f"there is no file {tmp_path / 'a.en'}"
    (tmp_path / "a.en").write_text("A.\n")
    assert files(["${PAIRS}/a.en"]) == [tmp_path / "a.en"]
    places = files(["missing.en", "$PAIRS/a.en", "$PAIRS/a.en", "$PAIRS/a.en"])  # a plain path is no offer
    with pytest.raises(UserError, match=r"no file missing\.en"):
        ParallelText(places, 280, 24)
    with pytest.raises(ValueError, match="give all of"):
        TextSettings(source="a.en")
