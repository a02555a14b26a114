"""Models on disk, in the Hugging Face layout: `config.json`, `model.safetensors`, beside the tokenizer's files.

Strict both ways: a missing or an extra weight is an error. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.config import DecoderConfig
from headwater.models.model import Kind, Model

ARCHITECTURES: dict[tuple[str, Kind], str] = {
    ("llama", "language-model"): "LlamaForCausalLM",
    ("llama", "reward"): "LlamaForSequenceClassification",
    ("llama", "critic"): "LlamaForTokenClassification",
    ("qwen3", "language-model"): "Qwen3ForCausalLM",
    ("qwen3", "reward"): "Qwen3ForSequenceClassification",
    ("qwen3", "critic"): "Qwen3ForTokenClassification",
}

_PREFIXES = {
    "backbone.embedding.": "model.embed_tokens.",
    "backbone.norm.": "model.norm.",
    "backbone.blocks.": "model.layers.",
    "heads.language_model.": "lm_head.",
    "heads.reward.score.": "score.",
    "heads.critic.score.": "score.",
}
_PARTS = {
    "attention_norm": "input_layernorm",
    "feedforward_norm": "post_attention_layernorm",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feedforward.gate": "mlp.gate_proj",
    "feedforward.up": "mlp.up_proj",
    "feedforward.down": "mlp.down_proj",
}


def hugging_face_name(name: str) -> str:
    """Our parameter's name → the Hugging Face layout's."""
    for ours, theirs in _PREFIXES.items():
        if name.startswith(ours):
            name = theirs + name[len(ours) :]
            break
    for ours, theirs in _PARTS.items():
        if f".{ours}." in name:
            return name.replace(f".{ours}.", f".{theirs}.")
    return name


def save_model(
    model: Model,
    folder: Path,
    *,
    pad: int,
    eos: int,
    extra: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes `config.json` and `model.safetensors`. `extra` goes under `headwater` in the configuration."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.to_hugging_face()
    config["architectures"] = [ARCHITECTURES[config["model_type"], model.kind]]
    config |= {"pad_token_id": pad, "eos_token_id": eos, "bos_token_id": None}
    if model.kind != "language-model":
        config |= {"num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    if extra:
        config["headwater"] = extra
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(
        {name: tensor.to(dtype) for name, tensor in _weights(model).items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def load_model(folder: Path) -> tuple[Model, dict[str, Any]]:
    """Reads a model in fp32 → (model, its configuration as written).

    Raises UserError where a file is missing or damaged, the family is unknown, or the weights do not fit exactly.
    """
    config = read_config(folder)
    names = config.get("architectures")
    kinds = {architecture: kind for (_, kind), architecture in ARCHITECTURES.items()}
    if not isinstance(names, list) or len(names) != 1 or str(names[0]) not in kinds:
        raise UserError(
            f"{folder / 'config.json'} names the architecture {names!r}: only {', '.join(kinds)} are known."
        )
    model = Model(DecoderConfig.from_hugging_face(config, str(folder / "config.json")), kinds[names[0]])
    _load_weights(model, folder / "model.safetensors")
    return model, config


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder, or a UserError that says what is wrong with it."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no model: there is no config.json in it.") from None
    except (OSError, ValueError):
        raise UserError(f"{path} is damaged: it is not valid JSON; restore it from its run.") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is damaged: it holds no configuration; restore it from its run.")
    return config


def _weights(model: Model) -> dict[str, Tensor]:
    """Weights by their Hugging Face names; a tied matrix is written once."""
    return {hugging_face_name(name): parameter.detach() for name, parameter in model.named_parameters()}


def _load_weights(model: Model, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except FileNotFoundError:
        raise UserError(f"There are no weights at {path}: the folder is no whole model.") from None
    except (SafetensorError, OSError, ValueError):
        raise UserError(f"{path} is damaged or no safetensors file: restore it from its run.") from None
    wanted = _weights(model)
    if model.config.tied_embeddings:
        found.pop("lm_head.weight", None)  # some writers repeat the tied matrix
    for name in wanted.keys() - found.keys():
        raise UserError(f"{path} lacks the weight {name}: it does not belong to its config.json.")
    for name in found.keys() - wanted.keys():
        raise UserError(f"{path} has the weight {name}, which its config.json does not know.")
    with torch.no_grad():
        for name, parameter in wanted.items():
            if parameter.shape != found[name].shape:
                raise UserError(
                    f"{path}: {name} has the shape {tuple(found[name].shape)}, but its config.json asks for "
                    f"{tuple(parameter.shape)}."
                )
            parameter.copy_(found[name])
