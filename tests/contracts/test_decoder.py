"""What is special to decoders of the Llama type; what every form must satisfy is in test_models.py."""

from __future__ import annotations

import pytest
import torch

from headwater.training.batch import Row, collate
from tiny import lively_model, tiny_model

SHAPES = {
    "qwen3": {},
    "llama": {"qk_norm": False},
    "one key per query": {"key_value_heads": 4},
    "untied": {"tied_embeddings": False},
}
every_shape = pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())


def ids_of(rows, time, seed=0):
    return torch.randint(5, 60, (rows, time), generator=torch.Generator().manual_seed(seed))


@every_shape
@pytest.mark.parametrize("kind", ["language-model", "reward", "critic"])
def test_padding_and_the_order_of_rows_change_nothing(changes, kind):
    model = tiny_model(kind, **changes)
    rows = [Row(ids_of(1, length, seed=length)[0]) for length in (3, 9, 1, 6)]
    batch = collate(rows)
    with torch.no_grad():
        found = model(batch.ids)
        turned = model(collate(rows[::-1]).ids).flip(0)
        torch.testing.assert_close(turned, found, atol=1e-5, rtol=1e-5)
        poisoned = torch.where(torch.arange(9) < batch.lengths[:, None], batch.ids, 59)
        for other in (poisoned, torch.nn.functional.pad(batch.ids, (0, 7), value=3)):
            result = model(other)
            for index, row in enumerate(rows):
                alone = model(row.ids[None])[0]
                torch.testing.assert_close(found[index, : len(row)], alone, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(result[index, : len(row)], alone, atol=1e-5, rtol=1e-5)


def test_only_the_order_of_positions_counts_not_where_they_begin():
    """Rotary angles are relative."""
    model = lively_model()
    ids, places = ids_of(2, 9), torch.arange(9)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids, places + 20), model(ids, places), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(model(ids, places * 3), model(ids, places), atol=1e-2)


def test_bf16_training_takes_another_path_to_the_same_attention():
    """The formula in matrix products is the kernel's."""
    from headwater.models import attention

    queries, keys, values = (torch.randn(2, heads, 7, 8, requires_grad=True) for heads in (4, 2, 2))
    for mask in (None, torch.rand(2, 1, 7, 7) > 0.5):
        mask = mask if mask is None else attention.additive(mask | torch.eye(7, dtype=torch.bool), torch.float32)
        plain = attention.attend(queries, keys, values, mask, grouped=True)
        found = attention._attend_by_products(queries, keys, values, mask, True, True, None, 0.0)
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
        for one, other in zip(
            torch.autograd.grad(found.square().sum(), (queries, keys, values)),
            torch.autograd.grad(plain.square().sum(), (queries, keys, values)),
            strict=True,
        ):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_gated_activation_s_gradient_is_torch_s():
    from headwater.models.block import GatedFeedForward
    from tiny import tiny_config

    layer, x = GatedFeedForward(tiny_config()), torch.randn(3, 4, 32, requires_grad=True)
    plain = layer.down(torch.nn.functional.silu(layer.gate(x)) * layer.up(x))
    found = layer(x)
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=1e-5)
    inputs = [x, *layer.parameters()]
    for one, other in zip(
        torch.autograd.grad(found.sin().sum(), inputs), torch.autograd.grad(plain.sin().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
