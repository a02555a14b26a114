"""Objectives of whole rows: a class, and the ends of an answer."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from headwater.models.model import Model
from headwater.objectives.classification import Classification
from headwater.objectives.span import AnswerSpan
from headwater.training.batch import collate
from tiny import tiny_config, tiny_model


def classifier(form="encoder"):
    return Model(tiny_config(form=form), "class", classes=3).initialise(1)


@pytest.mark.parametrize("form", ["encoder", "decoder"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_classes_is_torch_s_and_right_ones_are_counted(form, smoothing):
    objective, model = Classification(smoothing), classifier(form)
    batch = collate([objective.prepare([5, 6, 7], 2), objective.prepare([8, 9], 0), objective.prepare([9, 8, 7, 6], 1)])
    terms = objective.loss({"model": model}, batch)
    logits = torch.cat([model(row[:n][None]) for row, n in zip(batch.ids, batch.lengths, strict=True)])
    labels = torch.tensor([2, 0, 1])
    expected = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    assert float(terms["loss"].sum.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(terms["accuracy"].sum) == float((logits.argmax(-1) == labels).sum())
    assert terms["accuracy"].weight == 0
    assert objective.counts(batch) == {"loss": 3, "accuracy": 3}


def span_rows():
    objective = AnswerSpan()
    return objective, [objective.prepare([5, 6, 7], 1, 2), objective.prepare([8, 9, 10, 11, 12, 13], 0, 0)]


def test_the_loss_of_spans_is_the_mean_of_that_of_both_ends_over_real_tokens_alone():
    objective, rows = span_rows()
    model = tiny_model("span", form="encoder")
    batch = collate(rows)
    batch.ids[0, 3:] = 44
    found = objective.loss({"model": model}, batch)["loss"].sum
    expected = torch.zeros(())
    for row in rows:
        logits = model(row.ids[None])[0]
        for end, name in enumerate(("first", "last")):
            expected = expected - logits[:, end].log_softmax(0)[row.per_row[name]] / 2
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_loss_of_spans_is_that_of_transformers():
    from transformers import BertConfig, BertForQuestionAnswering

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    theirs = BertForQuestionAnswering(BertConfig(vocab_size=60, **sizes)).eval()
    ids, first, last = torch.randint(0, 60, (3, 7)), torch.tensor([0, 2, 4]), torch.tensor([1, 2, 6])
    with torch.no_grad():
        outcome = theirs(ids, start_positions=first, end_positions=last)
    stacked = torch.stack((outcome.start_logits, outcome.end_logits), dim=-1)
    objective = AnswerSpan()
    rows = zip(ids.tolist(), first.tolist(), last.tolist(), strict=True)
    batch = collate([objective.prepare(*row) for row in rows])
    found = objective.loss({"model": lambda *_, **__: stacked}, batch)["loss"].sum / 3
    assert float(found) == pytest.approx(float(outcome.loss), rel=1e-5)


def test_a_span_is_right_where_both_ends_are():
    objective, rows = span_rows()
    logits = torch.zeros(2, 6, 2)
    logits[0, 1, 0] = logits[0, 2, 1] = logits[1, 0, 0] = logits[1, 4, 1] = 1
    terms = objective.loss({"model": lambda *_, **__: logits}, collate(rows))
    assert float(terms["accuracy"].sum) == 1
    logits[0, 4] = 9  # padding
    assert float(objective.loss({"model": lambda *_, **__: logits}, collate(rows))["accuracy"].sum) == 1


@pytest.mark.parametrize("ends", [(-1, 0), (2, 1), (0, 3)])
def test_an_answer_outside_its_row_is_a_mistake(ends):
    with pytest.raises(ValueError, match="does not lie in a row of 3 tokens"):
        AnswerSpan().prepare([5, 6, 7], *ends)
