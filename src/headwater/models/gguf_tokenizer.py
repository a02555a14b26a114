"""Tokenizers in GGUF files ↔ `tokenizer.json`: byte-level BPE, with the ways in which llama.cpp cuts texts into words,
and, to be read only, SentencePiece's BPE.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from headwater.corpus.byte_level import is_byte_level
from headwater.errors import UserError
from headwater.models.gguf_sentencepiece import sentencepiece_bpe

WHOLE = "tokenizer.huggingface.json"
"""Key under which a file may hold the whole `tokenizer.json`; ours do, so that nothing is lost."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of tokens, as llama.cpp numbers them."""

_LLAMA_3_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN_2_WORDS = _LLAMA_3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
_WORDS_FIRST = ("llama-bpe", "llama3", "llama-v3")
"""Where a word that is a token is taken as it is, without joining its parts, and texts begin with a token for that."""
_PARTS = ("bos", "eos", "unk", "pad", "mask")
_KEYS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "mask": "mask"}
_MORE_ENDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def _of_pattern(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def word_cutters() -> dict[str, pre_tokenizers.PreTokenizer]:
    """{name in `tokenizer.ggml.pre`: how texts are cut into words}; the first name of equals is the one we write."""
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    smollm = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    llama_3, qwen_2 = _of_pattern(_LLAMA_3_WORDS), _of_pattern(_QWEN_2_WORDS)
    return {
        "gpt-2": gpt2,
        "default": gpt2,
        "smollm": smollm,
        "llama-bpe": llama_3,
        "llama3": llama_3,
        "llama-v3": llama_3,
        "qwen2": qwen_2,
        "deepseek-r1-qwen": qwen_2,
    }


def write_tokenizer(settings: Mapping[str, Any], folder: Path, context: int, place: Path) -> list[int]:
    """Writes `tokenizer.json` and `tokenizer_config.json` of a GGUF file's settings; returns the ids that end a text.

    place: the file. Raises UserError where the tokenizer is of a kind that is not known, or its lists do not fit each other.
    """
    tokens = _texts(settings, "tokenizer.ggml.tokens", place)
    inner = _whole(settings, tokens, place) or _built(settings, tokens, place)
    names = {part: tokens[number] for part in _PARTS if (number := _id(settings, _KEYS[part], len(tokens))) is not None}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        **{f"{part}_token": name for part, name in names.items()},
    }
    template = settings.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    (folder / "tokenizer.json").write_text(inner.to_str(pretty=True) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", "utf-8")
    ends = [_id(settings, "eos", len(tokens)), *(_number(settings, key, len(tokens)) for key in _MORE_ENDS)]
    return list(dict.fromkeys(end for end in ends if end is not None))


def _whole(settings: Mapping[str, Any], tokens: Sequence[str], place: Path) -> tokenizers.Tokenizer | None:
    """The tokenizer that the file holds as a whole, if it does."""
    if WHOLE not in settings:
        return None
    try:
        inner = tokenizers.Tokenizer.from_str(settings[WHOLE])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # bare Exception for every damage; a panic of the library is not even that
        raise UserError(f"{place} is damaged: the tokenizer in it cannot be read; copy it anew.") from None
    if any(number >= len(tokens) or tokens[number] != token for token, number in inner.get_vocab().items()):
        raise UserError(f"{place} is damaged: the two tokenizers in it contradict each other; copy it anew.")
    return inner


def _built(settings: Mapping[str, Any], tokens: Sequence[str], place: Path) -> tokenizers.Tokenizer:
    """The tokenizer that the lists of the file describe, with its control tokens and its framing."""
    model = settings.get("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise _unknown_kind(settings, place)
    kinds = np.asarray(settings.get("tokenizer.ggml.token_type", np.full(len(tokens), NORMAL)))
    if len(set(tokens)) != len(tokens) or kinds.shape != (len(tokens),):
        raise UserError(f"{place} is damaged: the lists of its tokenizer do not fit each other; copy it anew.")
    build = _byte_level_bpe if model == "gpt2" else _sentencepiece_bpe
    inner = build(settings, tokens, kinds.tolist(), place)
    for token, kind in zip(tokens, kinds.tolist(), strict=True):
        if kind in (CONTROL, USER_DEFINED):
            added = AddedToken(token, special=kind == CONTROL, normalized=False)
            (inner.add_special_tokens if added.special else inner.add_tokens)([added])
    bos = _id(settings, "bos", len(tokens))
    usual = model == "llama" or str(settings.get("tokenizer.ggml.pre")) in _WORDS_FIRST
    if bos is not None and settings.get("tokenizer.ggml.add_bos_token", usual):
        frame = processors.TemplateProcessing(
            single=[tokens[bos], "$A"], pair=[tokens[bos], "$A", "$B:1"], special_tokens=[(tokens[bos], bos)]
        )
        inner.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), frame])
    return inner


def _byte_level_bpe(
    settings: Mapping[str, Any], tokens: Sequence[str], _kinds: Sequence[int], place: Path
) -> tokenizers.Tokenizer:
    cut, cutters = str(settings.get("tokenizer.ggml.pre", "default")), word_cutters()
    if cut not in cutters:
        raise _unknown_kind(settings, place)
    merges = [merge.partition(" ")[::2] for merge in _texts(settings, "tokenizer.ggml.merges", place)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    try:
        inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut in _WORDS_FIRST))
    except Exception:  # bare, where a merge names a token that is not there
        raise UserError(
            f"{place} is damaged: the merges of its tokenizer do not fit its tokens; copy it anew."
        ) from None
    inner.pre_tokenizer = cutters[cut]
    inner.decoder = decoders.ByteLevel()
    if cutters[cut] is cutters["qwen2"]:
        inner.normalizer = normalizers.NFC()  # as Qwen's own tokenizer.json does
    return inner


def _sentencepiece_bpe(
    settings: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[int], place: Path
) -> tokenizers.Tokenizer:
    scores = np.asarray(settings.get("tokenizer.ggml.scores", ()))
    if scores.shape != (len(tokens),) or scores.dtype.kind not in "fiu" or not np.isfinite(scores).all():
        raise UserError(f"{place} is damaged: the scores of its tokenizer do not fit its tokens; copy it anew.")
    unknown = _id(settings, "unknown", len(tokens))
    return sentencepiece_bpe(
        tokens,
        scores.tolist(),
        [kind == NORMAL for kind in kinds],
        None if unknown is None else tokens[unknown],
        bool(settings.get("tokenizer.ggml.add_space_prefix", True)),
    )


def _unknown_kind(settings: Mapping[str, Any], place: Path) -> UserError:
    model, cut = settings.get("tokenizer.ggml.model"), settings.get("tokenizer.ggml.pre", "default")
    return UserError(
        f"{place} has a tokenizer of the kind {str(model)[:40]}/{str(cut)[:40]}: only SentencePiece (llama) and "
        f"byte-level BPE (gpt2) that cuts words as {', '.join(word_cutters())} are known; import the model's folder in "
        "the Hugging Face layout instead."
    )


def tokenizer_settings(folder: Path, vocabulary: int) -> dict[str, Any]:
    """The settings of a GGUF file for the tokenizer in a folder. vocabulary: rows of the model's embedding.

    Raises UserError where it is not byte-level BPE.
    """
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    state = json.loads(inner.to_str())
    if state["model"]["type"] != "BPE" or not is_byte_level(inner):
        raise UserError(f"The tokenizer in {folder} is not byte-level BPE, which GGUF export needs: export as hf.")
    tokens = [f"[PAD{number}]" for number in range(vocabulary)]
    kinds = [UNUSED] * vocabulary
    added = inner.get_added_tokens_decoder()
    for token, number in inner.get_vocab(with_added_tokens=True).items():
        tokens[number] = token
        kinds[number] = NORMAL if number not in added else CONTROL if added[number].special else USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _name_of_cutter(inner),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        WHOLE: inner.to_str(),
    }


def _name_of_cutter(inner: tokenizers.Tokenizer) -> str:
    """The name of the way to cut words, where llama.cpp has it. Other programs cut some words otherwise where not."""
    ours = _essence(inner.pre_tokenizer)
    return next((name for name, cutter in word_cutters().items() if _essence(cutter) == ours), "gpt-2")


def _essence(cutter: pre_tokenizers.PreTokenizer | None) -> Any:
    """What decides where words end; offsets do not."""
    if cutter is None:
        return None
    wrapper = tokenizers.Tokenizer(models.BPE())
    wrapper.pre_tokenizer = cutter
    state = json.loads(wrapper.to_str())["pre_tokenizer"]
    for part in [state, *state.get("pretokenizers", [])]:
        part.pop("trim_offsets", None)
    return state


def _texts(settings: Mapping[str, Any], key: str, place: Path) -> list[str]:
    found = settings.get(key)
    if not isinstance(found, list) or not found:
        raise UserError(f"{place} has no {key}, so no text can be given to its model: take a whole file.")
    return found


def _id(settings: Mapping[str, Any], name: str, size: int) -> int | None:
    return _number(settings, f"tokenizer.ggml.{name}_token_id", size)


def _number(settings: Mapping[str, Any], key: str, size: int) -> int | None:
    number = settings.get(key)
    return number if type(number) is int and 0 <= number < size else None
