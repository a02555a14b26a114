"""What a folder in the Hugging Face layout says about its tokenizer: special tokens by their part, chat template."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from headwater.corpus.byte_level import is_byte_level
from headwater.errors import UserError

PARTS = ("pad", "eos", "bos", "unk", "mask", "cls", "sep")
"""Parts that a special token may have: padding, end, begin, unknown, masked, class, separator."""
_PADDING_NAME = re.compile(r"[<\[]\|?(finetune_right_)?pad(ding)?(_id|_token)?\|?[>\]]", re.IGNORECASE)
_SPARE_NAME = re.compile(r"reserved|unused", re.IGNORECASE)
_SENTINEL_NAME = re.compile(r"<extra_id_(\d+)>")


@dataclass(frozen=True)
class Conventions:
    """The special tokens of a tokenizer and how dialogues are written."""

    ids: dict[str, int]
    """{part: token id}, for the parts that there are."""
    stops: tuple[int, ...]
    """Ids that end what a model writes, as the folder says."""
    sentinels: tuple[int, ...] = ()
    """Ids that stand for left-out spans in the denoising of T5, in their order."""
    template: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """`tokenizer_config.json` as it was read."""
    place: str = ""


def read_conventions(folder: Path, inner: tokenizers.Tokenizer) -> Conventions:
    """Reads `tokenizer_config.json`, `special_tokens_map.json`, `config.json` and `generation_config.json`, as far as
    they are there; what one says by name goes before what another says by id.

    A padding token that is absent, or that also ends a text, is replaced by a special token that nothing else uses.
    """
    settings, named, config, generation = (
        _read(folder / name)
        for name in ("tokenizer_config.json", "special_tokens_map.json", "config.json", "generation_config.json")
    )
    vocabulary = inner.get_vocab(with_added_tokens=True)
    size = max(vocabulary.values(), default=-1) + 1
    ids: dict[str, int] = {}
    for part in PARTS:
        names = [_content(source.get(f"{part}_token")) for source in (settings, named)]
        numbers = _numbers(config.get(f"{part}_token_id"), size) + _numbers(generation.get(f"{part}_token_id"), size)
        found = [vocabulary[name] for name in names if name in vocabulary] + numbers
        if found:
            ids[part] = found[0]
    _reserve(inner, [number for part, number in ids.items() if part != "unk"], vocabulary)
    stops = [ids["eos"]] if "eos" in ids else []
    stops += _numbers(config.get("eos_token_id"), size) + _numbers(generation.get("eos_token_id"), size)
    sentinels = sorted(
        (int(match[1]), number) for name, number in vocabulary.items() if (match := _SENTINEL_NAME.fullmatch(name))
    )
    conventions = Conventions(
        ids, tuple(dict.fromkeys(stops)), tuple(number for _, number in sentinels), _template(folder, settings),
        settings, str(folder),
    )  # fmt: skip
    if "pad" not in ids or ids["pad"] == ids.get("eos"):
        ids.pop("pad", None)
        if (spare := _spare_token(inner, conventions)) is not None:
            ids["pad"] = spare
    return conventions


def _reserve(inner: tokenizers.Tokenizer, numbers: list[int], vocabulary: dict[str, int]) -> None:
    """Makes what the folder names as control tokens so in the tokenizer too; the ids stay."""
    special = {number for number, token in inner.get_added_tokens_decoder().items() if token.special}
    names = [name for name, number in vocabulary.items() if number in numbers and number not in special]
    inner.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in names])


def _spare_token(inner: tokenizers.Tokenizer, conventions: Conventions) -> int | None:
    """A special token without a part of its own: one named for padding, else a reserved one, else the first.

    The unknown token is spare where bytes are the alphabet, as nothing is unknown there.
    """
    used = {number for part, number in conventions.ids.items() if part != "unk" or not is_byte_level(inner)}
    used |= {*conventions.stops, *conventions.sentinels}
    template = conventions.template or ""
    spare = {
        number: token.content
        for number, token in sorted(inner.get_added_tokens_decoder().items())
        if token.special and number not in used and token.content not in template
    }
    for pattern in (_PADDING_NAME, _SPARE_NAME):
        for number, name in spare.items():
            if pattern.search(name):
                return number
    return next(iter(spare), None)


def read_inner(path: Path) -> tokenizers.Tokenizer:
    """`tokenizer.json` without its own cutting and padding; UserError where it is damaged or empty."""
    try:
        inner = tokenizers.Tokenizer.from_file(str(path))
        inner.no_truncation()
        inner.no_padding()
        empty = not inner.get_vocab(with_added_tokens=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # bare Exception for every damage; a panic of the library is not even that
        raise UserError(f"The tokenizer {path} is damaged: copy it anew or run the tokenizer stage again.") from None
    if empty:
        raise UserError(f"The tokenizer {path} is damaged: it has no tokens; copy it anew.")
    return inner


def without_control_pieces(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A copy in which no text that spells a control token can become one.

    Control tokens are cut out of a text only where they are asked for. But some vocabularies hold them among their
    ordinary pieces too, and a Unigram model or one that takes whole words would find them there: such spellings are
    split after their first character.
    """
    model = json.loads(inner.to_str())["model"]
    copy = tokenizers.Tokenizer.from_str(inner.to_str())
    if model["type"] == "BPE" and not model.get("ignore_merges"):
        return copy
    pieces = inner.get_vocab(with_added_tokens=False)
    names = [token.content for token in inner.get_added_tokens_decoder().values() if token.special]
    found = [name for name in names if name in pieces and len(name) > 1]
    if not found:
        return copy
    pattern = "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in found)
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated")
    before = [copy.pre_tokenizer] if copy.pre_tokenizer is not None else []
    copy.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([*before, split])
    return copy


def _template(folder: Path, settings: dict[str, Any]) -> str | None:
    """The chat template: `chat_template.jinja`, or that in `tokenizer_config.json`; of several the default one."""
    path = folder / "chat_template.jinja"
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise UserError(f"{path} is damaged: copy it anew.") from None
    found = settings.get("chat_template") or _read(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        by_name = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = by_name.get("default")
    return found if isinstance(found, str) else None


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it is not valid JSON; copy it anew.")
    return found


def _content(token: Any) -> str | None:
    """The text of a token, which is written as a string or as an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _numbers(value: Any, size: int) -> list[int]:
    """Token ids below `size` in what is a number or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [number for number in values if type(number) is int and 0 <= number < size]
