"""Sliding windows: the path whose memory grows with the length computes what the whole mask says."""

from __future__ import annotations

import pytest
import torch
from forms import DECODERS, ENCODERS, close, form, ids_of
from torch.utils._python_dispatch import TorchDispatchMode

from headwater.models.attention import attend_locally

WINDOWED = {"decoder": DECODERS["sliding window"], "encoder": ENCODERS["encoder with a window"]}
WINDOWED["grouped decoder"] = form(window=5, key_value_heads=2)
WINDOWED["window of one"] = form(window=1)
windowed = pytest.mark.parametrize("form", WINDOWED.values(), ids=WINDOWED.keys())


@windowed
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("time", [6, 8, 13])
@pytest.mark.parametrize("packed", [False, True], ids=["one document", "packed and padded"])
def test_the_local_path_is_the_dense_one(form, dtype, time, packed, monkeypatch):
    """Forward and backward. A prefix of no tokens takes the way over the whole mask."""
    called = []
    monkeypatch.setattr(
        "headwater.models.attention.attend_locally", lambda *a: (called.append(1), attend_locally(*a))[1]
    )
    ids = ids_of(2, time)
    documents = torch.tensor([[1] * 3 + [2] * (time - 5) + [0] * 2, [0] + [4] * (time - 1)]) if packed else None
    real = torch.ones_like(ids, dtype=torch.bool) if documents is None else documents > 0
    found = []
    for prefix in (None, torch.zeros_like(ids, dtype=torch.bool)):
        model = form.model(dtype=dtype)
        logits = model(ids, documents=documents, prefix=prefix)[real]
        logits.float().square().mean().backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append((logits.detach(), torch.cat([gradient.flatten() for gradient in gradients])))
        assert bool(called) == (prefix is None)
        called.clear()
    close(found[0][0], found[1][0])
    if dtype == torch.float32:
        close(found[0][1], found[1][1])
    else:
        assert torch.cosine_similarity(found[0][1].float(), found[1][1].float(), dim=0) > 0.99


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation gives."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def elements(model, time):
    """(kept for the backward pass, largest tensor in forward and backward), in elements; shared storage counts once."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    ids = ids_of(1, time)
    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.backbone(ids).float().square().mean().backward()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    return sum(count for pointer, count in kept.items() if pointer not in weights), largest.elements


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_memory_is_linear_in_the_length(kind, dtype):
    model = WINDOWED[kind].model(dtype=dtype)
    (kept, largest), (kept_twice, largest_twice) = elements(model, 1024), elements(model, 2048)
    assert kept_twice < 2.1 * kept
    assert largest_twice < 2.1 * largest


def test_without_a_window_it_is_not():
    """The measure can tell."""
    model = DECODERS["alibi"].model()
    assert elements(model, 1024)[1] > 3 * elements(model, 512)[1]
