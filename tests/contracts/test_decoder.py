"""What every decoder must satisfy: Qwen3 and Llama, with and without grouped queries and tied embeddings."""

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
def test_no_token_sees_a_later_one(changes):
    model = lively_model(**changes)
    ids = ids_of(2, 12)
    with torch.no_grad():
        before = model(ids)
        for place in (1, 6, 11):
            changed = ids.clone()
            changed[:, place] = (changed[:, place] + 1) % 60
            after = model(changed)
            torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-6, rtol=1e-6)
            assert not torch.allclose(after[:, place:], before[:, place:], atol=1e-3)


@every_shape
def test_no_gradient_comes_from_a_later_token(changes):
    model = lively_model(**changes)
    embedded = []
    model.backbone.embedding.register_forward_hook(lambda *args: embedded.append(args[2].requires_grad_(True)))
    hidden = model.backbone(ids_of(1, 10))
    (gradient,) = torch.autograd.grad(hidden[0, 4].square().sum(), embedded[0])
    assert torch.all(gradient[0, 5:] == 0)
    assert torch.all(gradient[0, :5].abs().sum(dim=-1) > 0)


@every_shape
def test_decoding_with_a_cache_gives_the_logits_of_the_whole_row(changes):
    """Prompts of different lengths first, then token by token."""
    model = lively_model(**changes)
    ids, lengths = ids_of(3, 14), torch.tensor([3, 6, 1])
    cache = model.backbone.new_cache(3, 14, torch.float32)
    with torch.no_grad():
        whole = model(ids)
        cache.begin(torch.arange(3), torch.zeros(3, dtype=torch.long), torch.tensor([3, 6, 1]))
        logits = model.language_model(model.backbone(ids[:, :6], cache=cache))
        for row in range(3):
            torch.testing.assert_close(logits[row, : lengths[row]], whole[row, : lengths[row]], atol=1e-4, rtol=1e-4)
        for _ in range(8):
            cache.begin(torch.arange(3), lengths, torch.ones_like(lengths))
            logits = model.language_model(model.backbone(ids[torch.arange(3), lengths][:, None], cache=cache))
            torch.testing.assert_close(logits[:, 0], whole[torch.arange(3), lengths], atol=1e-4, rtol=1e-4)
            lengths = lengths + 1


@every_shape
def test_slots_in_another_order_are_the_same_rows(changes):
    model = lively_model(**changes)
    ids = ids_of(3, 5)
    cache = model.backbone.new_cache(4, 8, torch.float32)
    with torch.no_grad():
        cache.begin(torch.tensor([2, 0, 3]), torch.zeros(3, dtype=torch.long), torch.full((3,), 4))
        model.backbone(ids[:, :4], cache=cache)
        cache.move(3, 1)
        cache.begin(torch.tensor([1, 2]), torch.tensor([4, 4]), torch.tensor([1, 1]))
        logits = model.language_model(model.backbone(ids[[2, 0], 4:], cache=cache))
        torch.testing.assert_close(logits[:, 0], model(ids)[[2, 0], 4], atol=1e-4, rtol=1e-4)


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


def test_fresh_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one = tiny_model(seed=3)
    torch.manual_seed(2)
    two, three = tiny_model(seed=3), tiny_model(seed=4)
    pairs = list(zip(one.parameters(), two.parameters(), three.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)
