"""A linear probe: what frozen hidden states know of a label that the model never learnt (Alain & Bengio, 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from headwater.models.model import Model
from headwater.training.batch import READ_BUDGET, Batch, Row, split_by_tokens


@dataclass(frozen=True)
class Examples:
    """Token ids of texts and their labels."""

    texts: Sequence[Sequence[int]]
    labels: npt.NDArray[np.int64]
    """[texts]"""


def probe_accuracy(model: Model, train: Examples, test: Examples) -> float:
    """Share of test texts whose label a logistic regression on the model's mean hidden states gets right.

    The states are standardised on the training texts; the model is not changed.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(mean_states(model, train.texts), train.labels)
    return float(probe.score(mean_states(model, test.texts), test.labels))


@torch.inference_mode()
def mean_states(model: Model, texts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """The mean over a text's tokens of the last hidden states, [texts, d_model]; of an encoder-decoder, its encoder's.

    Texts longer than the context are cut.
    """
    rows = [
        Row(torch.tensor(text[: model.config.context]), per_row={"text": index}) for index, text in enumerate(texts)
    ]
    means = torch.zeros(len(texts), model.config.d_model)
    for batch in split_by_tokens(rows, READ_BUDGET):
        real = batch.documents_or_padding()
        weights = real[..., None].float()
        states = _states(model, batch, real).float()
        means[batch.per_row["text"]] = (states * weights).sum(dim=1) / weights.sum(dim=1)
    return means.numpy()


def _states(model: Model, batch: Batch, real: Tensor) -> Tensor:
    if model.config.form == "encoder-decoder":
        return model.backbone.encode(batch.ids, real)
    return model.backbone(batch.ids, documents=real)  # type: ignore[no-any-return]
