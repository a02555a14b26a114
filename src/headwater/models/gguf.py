"""Models in GGUF files (llama.cpp) → folders in the Hugging Face layout: Llama, Qwen2 and Qwen3."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headwater.errors import UserError
from headwater.models.gguf_file import GGUFFile, read_gguf
from headwater.models.gguf_tokenizer import write_tokenizer
from headwater.models.weights import WEIGHTS, write_weights

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
}
FREQUENCIES = "rope_freqs.weight"
"""What the rotary frequencies of Llama 3.1 and later are divided by; no weight of the model."""

LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""How Llama 3.1 and later extend their context, besides the factor."""
YARN = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"}

Numbers = npt.NDArray[np.float32]


def unpack_gguf(path: Path, folder: Path) -> None:
    """Writes the model of a GGUF file into `folder` as `config.json`, `generation_config.json`, fp32 weights and the
    tokenizer's files.

    Raises UserError where the file is damaged, is not what it says, or holds a model of another kind.
    """
    file = read_gguf(path)
    if file.settings.get("split.count", 1) != 1:
        raise UserError(f"{path} is one of several files of a model: join them first (`llama-gguf-split --merge`).")
    config = _config(file)
    _check_sizes(file, config)
    file.check_digest()
    ends = write_tokenizer(file.settings, folder, config["max_position_embeddings"], path)
    config["eos_token_id"] = ends[0] if len(ends) == 1 else ends or None
    weights = {}
    for name in file.tensors:
        if name != FREQUENCIES:
            numbers = file.numbers(name)
            if config["model_type"] == "llama" and (heads := rotated_heads(name, config)):
                if numbers.shape[0] != heads * config["head_dim"]:
                    raise UserError(
                        f"{path} is damaged: {name} has {numbers.shape[0]} rows, which no whole head fills."
                    )
                numbers = half_split(numbers, heads)
            weights[hugging_face_name(name, path)] = torch.from_numpy(numbers)
    write_weights(weights, folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    generation = {"eos_token_id": config["eos_token_id"]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def hugging_face_name(name: str, path: Path) -> str:
    """GGUF's name of a tensor → the Hugging Face layout's; UserError where no model of ours has such a part."""
    stem, _, last = name.rpartition(".")
    match = re.fullmatch(r"blk\.(\d{1,6})\.(\w+)", stem)
    if match and match[2] in PARTS:
        return f"model.layers.{int(match[1])}.{PARTS[match[2]]}.{last}"
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{last}"
    raise UserError(f"{path} has the weight {name[:80]!r}, which no Llama, Qwen2 or Qwen3 model here has.")


def half_split(numbers: Numbers, heads: int) -> Numbers:
    """Rows of a query or key matrix [heads · head_dim, …] from llama.cpp's order to that of `transformers`.

    Rotary positions turn pairs of numbers: in llama.cpp those beside each other (0, 1), (2, 3) …, in `transformers`
    those half a head apart (0, d/2), (1, d/2 + 1) ….
    """
    pairs = numbers.reshape(heads, -1, 2, *numbers.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(numbers.shape)


def interleaved(numbers: Numbers, heads: int) -> Numbers:
    """The inverse of `half_split`."""
    halves = numbers.reshape(heads, 2, -1, *numbers.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(numbers.shape)


def rotated_heads(name: str, config: Mapping[str, Any]) -> int:
    """How many heads the rows of a query or key matrix belong to; 0 for any other weight. name: GGUF's."""
    if re.fullmatch(r"blk\.\d+\.attn_q\.\w+", name):
        return int(config["num_attention_heads"])
    return int(config["num_key_value_heads"]) if re.fullmatch(r"blk\.\d+\.attn_k\.\w+", name) else 0


def _config(file: GGUFFile) -> dict[str, Any]:
    """`config.json` from the settings of the file."""
    family = str(file.settings.get("general.architecture"))
    if family not in ARCHITECTURES:
        raise UserError(
            f"{file.path} holds a model of the kind {family[:80]!r}: only {', '.join(ARCHITECTURES)} can be read."
        )
    sizes = {theirs: _whole_number(file, f"{family}.{key}") for key, theirs in SIZES.items()}
    heads = sizes["num_attention_heads"]
    key_value_heads = _whole_number(file, f"{family}.attention.head_count_kv", heads)
    width = _whole_number(file, f"{family}.attention.key_length", max(1, sizes["hidden_size"] // heads))
    for key in ("attention.value_length", "rope.dimension_count"):
        if _whole_number(file, f"{family}.{key}", width) != width:
            raise UserError(
                f"{file.path}: {family}.{key} is not the width of a head, which is {width}; that is not known."
            )
    if width % 2:
        raise UserError(f"{file.path}: the width of a head is {width}, but rotary positions need an even one.")
    base = _number(file, f"{family}.rope.freq_base", 10_000.0)
    return {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        **sizes,
        "num_key_value_heads": key_value_heads,
        "head_dim": width,
        "vocab_size": _shape(file, "token_embd.weight")[0],
        "rms_norm_eps": _number(file, f"{family}.attention.layer_norm_rms_epsilon"),
        "rope_theta": base,
        "rope_parameters": {"rope_theta": base} | _rope_scaling(file, family, base, width),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "torch_dtype": "float32",
    }


def _rope_scaling(file: GGUFFile, family: str, base: float, width: int) -> dict[str, Any]:
    kind = file.settings.get(f"{family}.rope.scaling.type", "none")
    if FREQUENCIES in file.tensors:
        return _llama_3_scaling(file, base, width)
    if kind == "none":
        return {"rope_type": "default"}
    if kind not in ("linear", "yarn") or f"{family}.rope.scaling.attn_factor" in file.settings:
        raise UserError(
            f"{file.path} extends its rotary positions by {str(kind)[:80]!r}: only linear and yarn are known."
        )
    scaling: dict[str, Any] = {"rope_type": kind, "factor": _number(file, f"{family}.rope.scaling.factor")}
    original = f"{family}.rope.scaling.original_context_length"
    if original in file.settings:
        scaling["original_max_position_embeddings"] = _whole_number(file, original)
    for key, theirs in YARN.items():
        if kind == "yarn" and f"{family}.rope.scaling.{key}" in file.settings:
            scaling[theirs] = _number(file, f"{family}.rope.scaling.{key}")
    return scaling


def _llama_3_scaling(file: GGUFFile, base: float, width: int) -> dict[str, Any]:
    """Llama 3.1 and later: the file has only the divisors; their largest is the factor, the rest was always the same."""
    divisors = file.numbers(FREQUENCIES).reshape(-1)
    factor = float(divisors.max())
    expected = llama_3_divisors(base, width, factor) if factor > 0 else divisors[:0]
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-3):
        raise UserError(
            f"{file.path} divides its rotary frequencies in a way that is not Llama 3's: it cannot be read."
        )
    return {"rope_type": "llama3", "factor": factor} | LLAMA_3


def llama_3_divisors(base: float, width: int, factor: float) -> Numbers:
    """[width / 2] What the rotary frequencies are divided by: `factor` where they turn less than once within the
    original context, 1 where they turn more than four times, and what is between in between.
    """
    low, high = LLAMA_3["low_freq_factor"], LLAMA_3["high_freq_factor"]
    frequencies = base ** -(np.arange(0, width, 2) / width)
    turns = LLAMA_3["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    share = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - share) / factor + share)).astype(np.float32)


def _check_sizes(file: GGUFFile, config: Mapping[str, Any]) -> None:
    """Compares the sizes with the tensors, so that no model is made that is larger than its file."""
    layers = {match[1] for name in file.tensors if (match := re.match(r"blk\.(\d+)\.", name))}
    width, head = config["hidden_size"], config["head_dim"]
    expected = {
        "token_embd.weight": (config["vocab_size"], width),
        "blk.0.attn_q.weight": (config["num_attention_heads"] * head, width),
        "blk.0.attn_k.weight": (config["num_key_value_heads"] * head, width),
        "blk.0.ffn_up.weight": (config["intermediate_size"], width),
    }
    fits = len(layers) == config["num_hidden_layers"]
    if not fits or any(_shape(file, name) != shape for name, shape in expected.items()):
        raise UserError(f"{file.path} is damaged: its settings do not fit its weights; copy it anew.")


def _shape(file: GGUFFile, name: str) -> tuple[int, ...]:
    if name not in file.tensors:
        raise UserError(f"{file.path} lacks the weight {name}: it is no whole model.")
    return file.tensors[name].shape


def _whole_number(file: GGUFFile, key: str, default: int | None = None) -> int:
    found = file.settings.get(key, default)
    if type(found) is not int or not 1 <= found < 2**31:
        raise UserError(f"{file.path}: {key} is {str(found)[:80]}, but must be a whole number of at least 1.")
    return found


def _number(file: GGUFFile, key: str, default: float | None = None) -> float:
    """A positive number; 32 bits are read as the shortest decimal number that they stand for."""
    found = file.settings.get(key, default)
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < float("inf"):
        raise UserError(f"{file.path}: {key} is {str(found)[:80]}, but must be a number above 0.")
    return float(str(np.float32(found)))
