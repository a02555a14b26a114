"""Which number format is taken where the recipe leaves it open."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.training import precision
from headwater.training.precision import choose_precision


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("processor\t: 0\nmodel name\t: a bf16 b\nflags\t\t: fpu avx512f avx512_bf16 sse\n", "bf16"),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16 amx_tile\n", "bf16"),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512bw\n", "fp32"),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n", "bf16"),
        ("processor\t: 0\nFeatures\t: fp asimd ebf16x\n", "fp32"),
        ("", "fp32"),
        (None, "fp32"),
    ],
)
def test_auto_is_what_the_processor_multiplies(
    told: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    if told is not None:
        path.write_text(told)
    monkeypatch.setattr(precision, "CPUINFO", path)
    assert choose_precision("auto") == expected
    assert (choose_precision("fp32"), choose_precision("bf16")) == ("fp32", "bf16")
