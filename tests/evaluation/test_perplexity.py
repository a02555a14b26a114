"""A model that knows its chances is calibrated; one that exaggerates is not."""

from __future__ import annotations

import pytest
import torch

from headwater.evaluation.perplexity import Text, bits_per_byte, prediction
from headwater.models.heads import IGNORED
from headwater.models.model import Model
from headwater.training.batch import Row
from tiny import tiny_model


def drawn(model: Model, count: int) -> list[Text]:
    """Rows whose last four tokens are drawn from the model itself; only these are learnt."""
    generator = torch.Generator().manual_seed(1)
    texts = []
    for _ in range(count):
        ids = torch.randint(2, 20, (3,), generator=generator)
        for _ in range(4):
            chances = model(ids[None])[0, -1].softmax(dim=-1)
            ids = torch.cat((ids, torch.multinomial(chances, 1, generator=generator)))
        targets = torch.cat((torch.full((2,), IGNORED), ids[3:]))
        texts.append(Text(Row(ids[:-1], {"targets": targets}), 1, "all"))
    return texts


@torch.no_grad()
def test_a_model_is_calibrated_on_what_it_says_itself_and_not_where_it_exaggerates() -> None:
    model = tiny_model()
    model.language_model.weight.mul_(10)
    texts = drawn(model, 300)
    found = prediction(model, texts).calibration
    assert found.count == 1200
    assert found.error < 0.04
    model.language_model.weight.mul_(4)
    assert prediction(model, texts).calibration.error > 2 * found.error + 0.05


def test_both_ways_of_reading_give_the_same_bits() -> None:
    model = tiny_model()
    texts = [Text(text.row, 3 + place % 2, f"group {place % 2}") for place, text in enumerate(drawn(model, 20))]
    found, plain = prediction(model, texts).bits_per_byte, bits_per_byte(model, texts)
    assert found.keys() == plain.keys() == {"all", "group 0", "group 1"}
    assert found == pytest.approx(plain, rel=1e-5)
