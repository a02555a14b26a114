"""The pieces of trl that our formulas are held against."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


def piece(module: str) -> ModuleType:
    """A module of trl. Skips where trl is not installed; one that is there and cannot be imported is an error."""
    if importlib.util.find_spec("trl") is None:
        pytest.skip("trl is not installed")
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def run_lines(method: Callable[..., Any], first: str, last: str, **names: Any) -> dict[str, Any]:
    """Runs lines from the middle of a method of trl as they stand there, with these names: what every name is after them.

    first, last: how the first and the last of the lines begin, without their indentation.
    """
    method = inspect.unwrap(method)
    source = inspect.getsource(method).splitlines()
    begin = next(place for place, line in enumerate(source) if line.strip().startswith(first))
    end = next(place for place, line in enumerate(source) if place >= begin and line.strip().startswith(last))
    space = {**method.__globals__, **names}
    exec(textwrap.dedent("\n".join(source[begin : end + 1])), space)
    return space


def trainer(**settings: Any) -> SimpleNamespace:
    """What a loss of one of trl's trainers asks its trainer for: one process, in training, with these settings."""

    def same(value: torch.Tensor, **_: Any) -> torch.Tensor:
        return value

    accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=same, gather_for_metrics=same, reduce=same, num_processes=1
    )
    given = {
        "model": SimpleNamespace(training=True), "accelerator": accelerator, "aux_loss_enabled": False,
        "_metrics": defaultdict(lambda: defaultdict(list)), "_total_train_tokens": 0, "model_kwarg_keys": (),
        "current_gradient_accumulation_steps": 1,
    }  # fmt: skip
    return SimpleNamespace(**(given | settings))
