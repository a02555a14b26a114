"""Small random models of transformers, one per family and head, and how both sides are asked for the same numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch

VOCABULARY, CONTEXT, PAD = 60, 48, 0
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = SIZES | {"intermediate_size": 40, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": CONTEXT}
GPT2 = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 4}
BERT = SIZES | {"intermediate_size": 40, "max_position_embeddings": CONTEXT, "type_vocab_size": 3}
MARIAN = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": CONTEXT,
    "decoder_start_token_id": 1,
    "eos_token_id": 2,
    "forced_eos_token_id": None,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 14,
    "decoder_start_token_id": 0,
}
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "image_size": 24,
    "patch_size": 8,
}


def rope(kind: str, **more: Any) -> dict[str, Any]:
    """Rotary positions stretched fourfold from a quarter of the context."""
    scaling = {"rope_type": kind, "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": CONTEXT // 4}
    return {"rope_parameters": scaling | more}


@dataclass
class Case:
    """A family's configuration with one of its heads."""

    name: str
    family: str
    kind: str
    sizes: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    """What transformers' class takes beside the configuration."""

    @property
    def images(self) -> bool:
        return self.family == "ViT"

    @property
    def pairs(self) -> bool:
        return self.family in ("Marian", "T5")

    @property
    def causal(self) -> bool:
        return self.family in ("Llama", "Qwen2", "Qwen3", "GPT2")


CLASSES = {
    "hidden": "Model",
    "masked": "ForMaskedLM",
    "class": "ForSequenceClassification",
    "reward": "ForSequenceClassification",
    "span": "ForQuestionAnswering",
    "critic": "ForTokenClassification",
}
LANGUAGE_MODELS = {"GPT2": "LMHeadModel", "Marian": "MTModel", "T5": "ForConditionalGeneration"}
LABELS = {"class": 5, "reward": 1, "critic": 1}

CASES = [
    Case(f"{family} {kind}", family, kind, sizes)
    for family, sizes, kinds in (
        ("Llama", LLAMA, ("language-model", "class", "reward", "critic", "hidden")),
        ("GPT2", GPT2, ("language-model", "class", "reward", "critic", "hidden")),
        ("Bert", BERT, ("hidden", "masked", "class", "span", "critic")),
        ("Marian", MARIAN, ("language-model", "hidden")),
        ("T5", T5, ("language-model", "hidden")),
        ("ViT", VIT, ("hidden", "class")),
    )
    for kind in kinds
]
CASES += [
    Case(f"{family} {name}", family, "language-model", sizes | changes)
    for family, name, sizes, changes in (
        ("Llama", "ungrouped, untied", LLAMA, {"num_key_value_heads": 4, "tie_word_embeddings": False}),
        ("Llama", "tied, one key per row", LLAMA, {"num_key_value_heads": 1, "tie_word_embeddings": True}),
        ("Llama", "linear", LLAMA, rope("linear")),
        ("Llama", "yarn", LLAMA, rope("yarn")),
        ("Llama", "yarn, other limits", LLAMA, rope("yarn", beta_fast=8.0, beta_slow=0.5, attention_factor=1.3)),
        ("Llama", "llama3", LLAMA, rope("llama3", low_freq_factor=1.0, high_freq_factor=4.0)),
        ("Qwen2", "", LLAMA, {}),
        ("Qwen2", "tied", LLAMA, {"tie_word_embeddings": True}),
        ("Qwen3", "", LLAMA, {"head_dim": 12}),
        ("Qwen3", "yarn", LLAMA, rope("yarn")),
        (
            "GPT2",
            "untied, gelu, other width",
            GPT2,
            {"tie_word_embeddings": False, "activation_function": "gelu", "n_inner": 40},
        ),
        ("GPT2", "scores not scaled", GPT2, {"scale_attn_weights": False}),
        ("Marian", "2017", MARIAN, {"activation_function": "relu", "scale_embedding": True}),
        ("Marian", "swish", MARIAN, {"activation_function": "swish"}),
        ("T5", "1.1", T5, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
        ("T5", "gated silu", T5, {"feed_forward_proj": "gated-silu"}),
    )
]
CASES += [
    Case("Bert without pooler", "Bert", "hidden", BERT, {"add_pooling_layer": False}),
    Case("Bert relu", "Bert", "masked", BERT | {"hidden_act": "relu"}),
    Case("ViT without pooler", "ViT", "hidden", VIT, {"add_pooling_layer": False}),
    Case("ViT without biases, one channel", "ViT", "class", VIT | {"qkv_bias": False, "num_channels": 1}),
]


BY_NAME = {case.name: case for case in CASES}
FIRST = {
    "Llama": "Llama language-model",
    "GPT2": "GPT2 language-model",
    "Bert": "Bert masked",
    "Marian": "Marian language-model",
}
FIRST |= {"T5": "T5 language-model", "ViT": "ViT class"}


def class_of(case: Case) -> Any:
    import transformers

    if case.images and case.kind == "class":
        return transformers.ViTForImageClassification
    usual = LANGUAGE_MODELS.get(case.family, "ForCausalLM")
    return getattr(transformers, case.family + (usual if case.kind == "language-model" else CLASSES[case.kind]))


def their_model(case: Case, seed: int = 0) -> Any:
    """A random model whose every weight counts: norms and biases are noisy, predictions far from uniform."""
    import transformers

    torch.manual_seed(seed)
    labels = {"num_labels": LABELS[case.kind]} if case.kind in LABELS else {}
    pad = {} if case.images else {"pad_token_id": PAD}
    config = getattr(transformers, f"{case.family}Config")(**(case.sizes | labels | pad))
    model = class_of(case)(config, **case.options)
    with torch.no_grad():
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            if not weight.is_floating_point() or "inv_freq" in name:
                continue
            if weight.dim() == 1 or name == "final_logits_bias":
                weight.add_(0.3 * torch.randn(weight.shape))
            elif "embed_positions" not in name:
                spread = 1.0 if any(part in name for part in ("embed", "wte", "shared", "token")) else 0.3
                if case.family == "T5" and (".q." in name or ".wi" in name):
                    spread = 0.1  # its scores are not divided by √head_dim
                weight.copy_(spread * torch.randn(weight.shape))
        if case.family == "T5" and "tie_word_embeddings" in case.sizes:
            model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn_like(model.shared.weight))
    return model.eval()


def opened(case: Case, folder: Any) -> Any:
    """Our files, read by transformers, which must miss nothing and find nothing more."""
    model, report = class_of(case).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **case.options
    )
    wrong = report["missing_keys"] | report["unexpected_keys"] | report["mismatched_keys"]
    assert not {key for key in wrong if "embed_positions" not in key}, report  # it computes the sinusoids itself
    return model.eval()


def padded(side: str, seed: int, time: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of different lengths, ids and mask [4, time]."""
    ids = torch.randint(5, VOCABULARY, (4, time), generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([time, time // 2, 1, time - 3]) if side != "none" else torch.full((4,), time)
    mask = (torch.arange(time) < lengths[:, None]).long()
    mask = mask.flip(1) if side == "left" else mask
    return torch.where(mask > 0, ids, PAD), mask


def compare(case: Case, ours: Any, theirs: Any, side: str) -> float:
    """The largest difference of real positions."""
    with torch.no_grad():
        if case.images:
            return _compare_images(case, ours, theirs)
        ids, mask = padded(side, seed=1)
        if case.pairs:
            return _compare_pairs(case, ours, theirs, ids, mask, side)
        more, same = {}, {}
        if case.causal and side == "left":
            more["position_ids"] = same["positions"] = (mask.cumsum(1) - 1).clamp(min=0)
        if case.family == "Bert":
            more["token_type_ids"] = same["segments"] = torch.arange(20).expand(4, -1) // 7
        answer = theirs(input_ids=ids, attention_mask=mask, **more)
        if side == "left" and (case.kind == "reward" or (case.family, case.kind) == ("Bert", "class")):
            return 0.0  # rewards are of rows padded on the right; there, transformers' BERT pools the padding
        if case.kind == "reward":
            return _difference(ours.scores(ids, mask.sum(1))[:, None], answer.logits)
        found = ours(ids, documents=mask, **same)
        if case.kind == "hidden":
            difference = _difference(found, answer.last_hidden_state, mask)
            if case.family == "Bert" and not case.options and side != "left":  # there, transformers pools the padding
                difference = max(difference, _difference(ours.head.pooled(found), answer.pooler_output))
            return difference
        if case.kind == "class":
            return _difference(found, answer.logits)
        if case.kind == "span":
            return _difference(found, torch.stack((answer.start_logits, answer.end_logits), dim=-1), mask)
        return _difference(found[..., None] if case.kind == "critic" else found, answer.logits, mask)


def _compare_images(case: Case, ours: Any, theirs: Any) -> float:
    pixels = torch.randn(3, case.sizes.get("num_channels", 3), 24, 24, generator=torch.Generator().manual_seed(1))
    found, answer = ours(pixels), theirs(pixel_values=pixels)
    if case.kind == "class":
        return _difference(found, answer.logits)
    difference = _difference(found, answer.last_hidden_state)
    return difference if case.options else max(difference, _difference(ours.head.pooled(found), answer.pooler_output))


def _compare_pairs(case: Case, ours: Any, theirs: Any, ids: Any, mask: Any, side: str) -> float:
    target, target_mask = padded(side, seed=2, time=9)
    answer = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=target_mask)
    found = ours(ids, target, source_documents=mask, documents=target_mask)
    return _difference(found, answer.last_hidden_state if case.kind == "hidden" else answer.logits, target_mask)


def _difference(found: torch.Tensor, expected: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    assert found.shape == expected.shape
    if mask is not None:
        found, expected = found[mask > 0], expected[mask > 0]
    assert float(expected.std()) > 0.05, "numbers that are all alike show nothing"
    return float((found - expected).abs().max())


def rewritten(folder: Any, change: dict[str, Any]) -> None:
    """config.json with other values; None deletes a key."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None or key not in change}))
