"""Models on disk, in the Hugging Face layout: `config.json`, `model.safetensors`, beside the tokenizer's files.

Strict both ways: a missing or an extra weight is an error. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.families import Family, family_named, family_of
from headwater.models.model import Config, Kind, Model
from headwater.models.weights import WEIGHTS, read_weights, write_weights
from headwater.storage import sha256_of

if TYPE_CHECKING:
    from headwater.corpus.tokenizer import Tokenizer


def save_model(
    model: Model,
    folder: Path,
    *,
    pad: int | None,
    eos: int | list[int] | None,
    extra: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes `config.json` and `model.safetensors`. `extra` goes under `headwater` in the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    family = family_of(model.config, model.kind)
    config = {"model_type": family.name, "architectures": [family.architectures[model.kind]]} | family.write(
        model.config
    )
    config |= {"pad_token_id": pad, "eos_token_id": eos, "bos_token_id": None}
    if model.kind in ("reward", "critic", "class"):
        labels = [f"LABEL_{number}" for number in range(model.classes if model.kind == "class" else 1)]
        config |= {
            "num_labels": len(labels),
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        }
    if extra:
        config["headwater"] = extra
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_weights(family.export(_parameters(model), model.config, model.kind), folder / WEIGHTS, dtype)


def save_with_tokenizer(
    model: Model,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    end: int,
    context: int | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """A model and its tokenizer in one folder. `end`: the token that ends what it writes; `context`: what the tokenizer says
    that the model reads at most, where that is not the model's own; `extra` as of `save_model`.
    """
    save_model(model, folder, pad=tokenizer.pad, eos=end, extra=extra)
    tokenizer.save(folder, context or model.config.context)


def load_model(folder: Path) -> Model:
    """Reads a model in fp32.

    Raises UserError where a file is missing or damaged, the family is unknown, or the weights do not fit exactly.
    """
    config = read_config(folder)
    place = str(folder / "config.json")
    family = family_named(config.get("model_type"), place)
    kind = _kind(family, config, place)
    ours = family.read(config, place)
    found = family.settled(read_weights(folder), kind)
    ours = family.suited(ours, kind, found)
    _check(ours, kind, _classes(config), family, found, folder)
    model = Model(ours, kind, _classes(config))
    parameters = _parameters(model)
    with torch.no_grad():
        for name, tensor in family.absorb(found, parameters, ours, kind).items():
            parameters[name].copy_(tensor)
    return model.eval()


def read_context(folder: Path) -> int:
    """Tokens that the model of a folder reads at most, without reading its weights. Errors as of `load_model`."""
    config, place = read_config(folder), str(folder / "config.json")
    return family_named(config.get("model_type"), place).read(config, place).context


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder, or a UserError that says what is wrong with it."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no model: there is no config.json in it.") from None
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} is damaged: it is not valid JSON; restore it from its run.") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is damaged: it holds no configuration; restore it from its run.")
    return config


def weights_digest(folder: Path) -> str:
    """What tells a model from others: the start of the SHA-256 of its weights."""
    return sha256_of(folder / WEIGHTS)[:16]


def _kind(family: Family, config: Mapping[str, Any], place: str) -> Kind:
    """The head that `architectures` names. One label of a whole row is a reward."""
    names = config.get("architectures")
    kinds: dict[str, Kind] = {}
    for kind, architecture in family.architectures.items():
        kinds.setdefault(architecture, kind)
    if not isinstance(names, list) or len(names) != 1 or str(names[0]) not in kinds:
        raise UserError(f"{place} names the architecture {names!r}: only {', '.join(kinds)} are known.")
    kind = kinds[str(names[0])]
    if kind in ("reward", "class") and {"reward", "class"} <= family.architectures.keys():
        return "class" if _classes(config) > 1 else "reward"
    return kind


def _classes(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    found = len(labels) if isinstance(labels, dict) and labels else config.get("num_labels", 2)
    return found if isinstance(found, int) and found > 0 else 2


def _parameters(model: Model) -> dict[str, Tensor]:
    """Weights by our names; a tied matrix is named once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _check(config: Config, kind: Kind, classes: int, family: Family, found: dict[str, Tensor], folder: Path) -> None:
    """Raises UserError where the weights are not exactly those that the configuration asks for, before a model of its size
    takes memory. Weights that follow from others are dropped from `found`.
    """
    path, place = str(folder / WEIGHTS), str(folder / "config.json")
    layers = config.layers + getattr(config, "decoder_layers", 0)
    if layers > len(found):  # so many blocks would be built, one by one
        raise UserError(f"{place} asks for {layers} layers, but {path} has only {len(found)} weights.")
    try:
        with torch.device("meta"):
            wanted = family.export(_parameters(Model(config, kind, classes)), config, kind)
    except (RuntimeError, OverflowError):
        raise UserError(f"{place} asks for a model of a size that cannot be: restore it from its run.") from None
    for repeated, original in family.repeated.items():
        if repeated in found and repeated not in wanted and original in wanted:
            copied = found.pop(repeated)  # some writers repeat a tied matrix
            if original in found and not torch.equal(copied, found[original]):
                raise UserError(f"{path}: {repeated} is not {original}, though {place} says that they are one.")
    for name in found.keys() - wanted.keys():
        if not name.endswith(family.passed_over or ("\0",)):
            raise UserError(f"{path} has the weight {name}, which its config.json does not know.")
    for name, tensor in wanted.items():
        if name not in found:
            raise UserError(f"{path} lacks the weight {name}: it does not belong to its config.json.")
        if tensor.shape != found[name].shape:
            raise UserError(
                f"{path}: {name} has the shape {tuple(found[name].shape)}, but its config.json asks for "
                f"{tuple(tensor.shape)}."
            )
        if not found[name].is_floating_point():
            raise UserError(f"{path}: {name} holds {found[name].dtype} in place of floating-point numbers.")
