from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_run import write_run

from headwater.report.material import Material, gather


@pytest.fixture
def material(tmp_path: Path) -> Material:
    """A whole run, as `synthetic_run` makes it up."""
    folder = tmp_path / "quickstart"
    return gather("quickstart", write_run(folder), folder / "expected.json")
