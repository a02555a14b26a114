"""Models in folders of the Hugging Face layout → GGUF files (llama.cpp): Llama, Qwen2 and Qwen3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.gguf import (
    ARCHITECTURES,
    FREQUENCIES,
    LLAMA_3,
    PARTS,
    SIZES,
    WHOLE,
    YARN,
    interleaved,
    llama_3_divisors,
    rotated_heads,
)
from headwater.models.gguf_file import DIGEST, digest_of, package
from headwater.models.gguf_tokenizer import tokenizer_settings
from headwater.models.layout import read_config
from headwater.models.weights import read_weights


def write_gguf(folder: Path, path: Path, half: bool = False, name: str = "") -> None:
    """Writes the language model in a folder of the Hugging Face layout as one GGUF file.

    half: matrices in 16 bits (F16) instead of 32. `name` is what other programs show. Raises UserError where it is no
    Llama, Qwen2 or Qwen3 language model with a byte-level tokenizer.
    """
    config = read_config(folder)
    check_exportable(config, folder)
    family = str(config["model_type"])
    gguf = package()
    weights = {gguf_name(key): tensor.float().numpy() for key, tensor in read_weights(folder).items()}
    for key, numbers in weights.items():
        if family == "llama" and (heads := rotated_heads(key, config)):
            weights[key] = interleaved(numbers, heads)
        if half and numbers.ndim > 1:
            weights[key] = weights[key].astype(np.float16)
    if _rope(config).get("rope_type") == "llama3":
        weights[FREQUENCIES] = llama_3_divisors(_base(config), _width(config), float(_rope(config)["factor"]))
    settings = _settings(config, family) | tokenizer_settings(folder, config["vocab_size"])
    settings |= _special_tokens(folder) | {"general.name": name or folder.name, "general.file_type": int(half)}
    settings[DIGEST] = digest_of(weights)
    writer = gguf.GGUFWriter(path, family)
    for key, value in settings.items():
        _add(writer, key, value)
    for key, numbers in weights.items():
        writer.add_tensor(key, np.ascontiguousarray(numbers))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_exportable(config: Mapping[str, Any], place: Path) -> None:
    """Raises UserError where GGUF has no form for a model of this `config.json`."""
    family = config.get("model_type")
    if family not in ARCHITECTURES or config.get("architectures") != [ARCHITECTURES[family]]:
        raise UserError(
            f"{place} holds a {family} model as {config.get('architectures')}: only language models of the families "
            f"{', '.join(ARCHITECTURES)} can be written as GGUF; export as hf."
        )


def gguf_name(name: str) -> str:
    """The Hugging Face layout's name of a weight → GGUF's."""
    stem, _, last = name.rpartition(".")
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    if match:
        return f"blk.{match[1]}.{_turned(PARTS)[match[2]]}.{last}"
    return f"{_turned(WHOLE)[stem]}.{last}"


def _settings(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The settings of a GGUF file from `config.json`."""
    width = _width(config)
    return (
        {f"{family}.{key}": config[theirs] for key, theirs in SIZES.items()}
        | {
            f"{family}.attention.head_count_kv": config.get("num_key_value_heads") or config["num_attention_heads"],
            f"{family}.attention.key_length": width,
            f"{family}.attention.value_length": width,
            f"{family}.rope.dimension_count": width,
            f"{family}.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
            f"{family}.rope.freq_base": _base(config),
            f"{family}.vocab_size": config["vocab_size"],
        }
        | {f"{family}.rope.scaling.{key}": value for key, value in _rope_scaling(config).items()}
    )


def _width(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return found


def _base(config: Mapping[str, Any]) -> float:
    return float(config.get("rope_theta") or _rope(config).get("rope_theta") or 10_000.0)


def _rope_scaling(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of extended positions in settings; Llama 3's extension is in a tensor."""
    rope = _rope(config)
    kind = rope.get("rope_type", "default")
    if kind == "default" or (kind == "llama3" and all(rope.get(key) == value for key, value in LLAMA_3.items())):
        return {}
    if kind not in ("linear", "yarn") or rope.get("attention_factor"):
        raise UserError(
            f"A model with rotary positions that are extended as {dict(rope)} cannot be GGUF: export as hf."
        )
    scaling: dict[str, Any] = {"type": kind, "factor": float(rope["factor"])}
    if "original_max_position_embeddings" in rope:
        scaling["original_context_length"] = int(rope["original_max_position_embeddings"])
    return scaling | {key: float(rope[theirs]) for key, theirs in YARN.items() if kind == "yarn" and theirs in rope}


def _special_tokens(folder: Path) -> dict[str, Any]:
    tokenizer = Tokenizer.load(folder)
    names = {"bos": tokenizer.bos, "eos": tokenizer.eos, "unknown": tokenizer.unk, "padding": tokenizer.padding}
    settings: dict[str, Any] = {
        f"tokenizer.ggml.{name}_token_id": number for name, number in names.items() if number is not None
    }
    # Whatever else ends an answer; llama.cpp stops at these as it does at the end token.
    others = [token for token in tokenizer.stop_tokens if token != tokenizer.eos]
    settings |= {f"tokenizer.ggml.{name}_token_id": token for name, token in zip(("eot", "eom"), others, strict=False)}
    settings["tokenizer.ggml.add_bos_token"] = bool(tokenizer.bos in tokenizer.encode("a", special=True)[:1])
    if (template := tokenizer.chat_template) is not None:
        settings["tokenizer.chat_template"] = template
    return settings


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def _turned(names: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}
