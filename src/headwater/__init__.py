"""headwater: from raw text to a language model that people's judgements improved.

import headwater
model, tokenizer = headwater.load("runs/quickstart/ppo")
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.corpus.tokenizer import Tokenizer
    from headwater.models.model import Model

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def load(path: str | os.PathLike[str]) -> tuple[Model, Tokenizer | None]:
    """The model, in fp32 and ready to be used, and its tokenizer; None where the folder has none.

    path: the folder of a model, a run, or RUN/STAGE; runs are looked for in $HEADWATER_RUNS, else in ./runs.
    `model(ids)` gives logits [batch, time, vocabulary] for token ids [batch, time]; an encoder-decoder takes
    `model(source, target)`. Raises `headwater.errors.UserError`, one plain sentence, where there is no model, where a
    file is damaged, or where the tokenizer belongs to another model.
    """
    # Here, so that `import headwater` stays light: torch comes with the first model.
    from headwater import catalogue, exchange

    return exchange.load(Path(catalogue.model_folder(os.fspath(path), catalogue.runs_root())))
