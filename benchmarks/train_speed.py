"""How fast headwater trains, beside transformers, on the same model, tokens and machine.

Measured: one update of the optimiser (forward, backward, clipping, AdamW) on random tokens, as
- headwater: `Engine.train_step` with AdamW, in the precision that `choose_precision("auto")` finds on this machine, in
  micro-batches of as many rows as the pretrain stage takes; its peers take the whole batch at once, as their users do
  (`--peer-rows` gives them micro-batches too);
- transformers-autocast: the model that `AutoModelForCausalLM` makes of the same exported configuration and weights,
  fp32 weights, its own loss, `torch.autocast` to bf16, clipping, fused AdamW;
- transformers-fp32: the same without autocast.
All have the same weights at the start, and their first losses are compared: they must be the same function. The ways
take turns, and medians over the rounds are compared:

    ratio_to_transformers       tokens/s of headwater / tokens/s of transformers-autocast
    ratio_to_transformers_fp32  … / transformers-fp32
    ratio_to_transformers_best  … / the faster of the two
    share_of_peak               headwater's floating-point operations per second (`training_flops_per_token`) / the best
                                speed of large square matrix products in the same precision, measured in the same run

    python benchmarks/train_speed.py --json train_speed.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from headwater.cores import usable_cores
from headwater.models.layout import save_model
from headwater.models.model import Model
from headwater.models.presets import config_of
from headwater.models.settings import ModelSettings
from headwater.objectives.causal import CausalLM
from headwater.stages.pretrain import ROWS_PER_BATCH
from headwater.training.batch import Batch
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.machine import keep_freed_memory
from headwater.training.precision import choose_precision, measure_matrix_products
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from measuring import medians, show, take_turns, write_json

PEAK_SIZE = 2048
"""Rows and columns of the matrices whose product is taken for the peak: larger ones are not faster here."""
LOSS_TOLERANCE = 0.02
"""Largest relative difference of the first losses, which bf16 leaves between equal functions."""
OPTIMISER = OptimiserSettings(name="adamw", learning_rate=3e-4)


class RandomTokens:
    """A source that always gives the same batch: what stands in the tokens does not change the speed."""

    def __init__(self, ids: torch.Tensor, rows_per_batch: int) -> None:
        self.batches = [
            Batch(part[:, :-1], torch.full((len(part),), part.shape[1] - 1), {"targets": part[:, 1:].contiguous()})
            for part in ids.split(rows_per_batch)
        ]

    def take(self) -> list[Batch]:
        return self.batches

    def progress(self) -> float:
        return 0.0

    def at_boundary(self) -> bool:
        return True

    def observe(self, metrics: Mapping[str, float]) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def headwater_way(model: Model, ids: torch.Tensor, precision: str, rows_per_batch: int) -> Callable[[], float]:
    """One update by the engine, as a function that returns its loss. ids: [rows, context + 1]."""
    source = RandomTokens(ids, rows_per_batch)
    learner = Learner(model, OPTIMISER, ScheduleSettings(name="constant"), precision)
    engine = Engine({"model": learner}, source, CausalLM())
    return lambda: engine.train_step(source.take())["loss"]


def transformers_way(folder: Path, ids: torch.Tensor, autocast: bool, rows: int) -> Callable[[], float]:
    """One update by transformers' own model, as a function that returns its loss."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=OPTIMISER.learning_rate, betas=OPTIMISER.betas, eps=OPTIMISER.epsilon, fused=True
    )

    parts = ids.split(rows)

    def step() -> float:
        total = 0.0
        for part in parts:
            before, after = part[:, :-1].contiguous(), part[:, 1:].contiguous()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = model(input_ids=before, labels=before, shift_labels=after, use_cache=False).loss
            loss = loss * (len(part) / len(ids))
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMISER.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return total

    return step


def compare_losses(losses: Mapping[str, float]) -> None:
    """Ends the benchmark where the ways do not compute the same function."""
    reference = losses["transformers-fp32"]
    for name, loss in losses.items():
        if not abs(loss - reference) <= LOSS_TOLERANCE * abs(reference):
            raise SystemExit(f"{name} starts at the loss {loss:.4f}, transformers in fp32 at {reference:.4f}.")


def result_of(seconds: Mapping[str, float], tokens: int, flops_per_token: float, peak: float) -> dict[str, float]:
    """Median seconds per update by way, tokens per update, FLOPs per token, FLOP/s of the peak → the ratios."""
    speeds = {name: tokens / value for name, value in seconds.items()}
    own, autocast, fp32 = (speeds[name] for name in ("headwater", "transformers-autocast", "transformers-fp32"))
    return {
        "ratio_to_transformers": own / autocast,
        "ratio_to_transformers_fp32": own / fp32,
        "ratio_to_transformers_best": own / max(autocast, fp32),
        "share_of_peak": own * flops_per_token / peak,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="256 wide with 4,096 tokens of vocabulary")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, help="default 384; 256 with --small")
    parser.add_argument("--heads", type=int, help="default: 64 wide each")
    parser.add_argument("--vocabulary", type=int, help="default 8192; 4096 with --small")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch")
    parser.add_argument("--peer-rows", type=int, help="rows of transformers' micro-batches; default: all at once")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of headwater")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    given = parser.parse_args()
    given.width = given.width or (256 if given.small else 384)
    given.vocabulary = given.vocabulary or (4096 if given.small else 8192)
    given.heads = given.heads or max(1, given.width // 64)
    return given


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole measurement."""
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    precision = choose_precision(given.precision)
    sizes = ModelSettings(layers=given.layers, d_model=given.width, heads=given.heads, context=given.context)
    model = Model(config_of(sizes, given.vocabulary)).initialise(1)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, given.vocabulary, (given.rows, given.context + 1), generator=generator)
    peer_rows = given.peer_rows or given.rows
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder), pad=0, eos=1)
        ways = {
            "headwater": headwater_way(model, ids, precision, ROWS_PER_BATCH),
            "transformers-autocast": transformers_way(Path(folder), ids, autocast=True, rows=peer_rows),
            "transformers-fp32": transformers_way(Path(folder), ids, autocast=False, rows=peer_rows),
        }
    compare_losses({name: way() for name, way in ways.items()})
    peaks = [measure_matrix_products(PEAK_SIZE, seconds=1.0)]
    seconds = take_turns(ways, given.rounds)
    peaks.append(measure_matrix_products(PEAK_SIZE, seconds=1.0))
    peak = max(measured[precision] for measured in peaks) * 1e9
    tokens = given.rows * given.context
    flops = model.training_flops_per_token(given.context)
    middle = medians(seconds)
    return {
        **result_of(middle, tokens, flops, peak),
        "tokens_per_second": {name: tokens / value for name, value in middle.items()},
        "seconds": seconds,
        "precision": precision,
        "optimiser": "AdamW (fused)",
        "threads": given.threads,
        "parameters": model.parameter_count(),
        "model": {"layers": given.layers, "d_model": given.width, "heads": given.heads, "vocabulary": given.vocabulary},
        "batch": {"rows": given.rows, "context": given.context},
        "rows_per_micro_batch": {"headwater": ROWS_PER_BATCH, "transformers": peer_rows},
        "flops_per_token": flops,
        "peak_gflops": peak / 1e9,
    }


def main() -> None:
    given = arguments()
    found = measure(given)
    write_json(given.json, found)
    show(f"headwater in {found['precision']}, AdamW, {found['threads']} threads, {found['parameters']:,} parameters")
    for name, speed in found["tokens_per_second"].items():
        print(f"{name:24} {speed:10,.0f} tokens/s")
    for name in ("ratio_to_transformers", "ratio_to_transformers_fp32", "ratio_to_transformers_best", "share_of_peak"):
        print(f"{name:27} {found[name]:7.2f}")


if __name__ == "__main__":
    main()
