"""What a stage measures on the way: one JSON object per line in `metrics.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headwater.errors import UserError
from headwater.storage import write_json_lines


class MetricsLog:
    """Appends lines of named numbers; a resumed stage first drops the lines after its checkpoint."""

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self.path = folder / "metrics.jsonl"
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UserError(
                    "`tensorboard: true` needs a package that is not installed: `pip install 'headwater[tensorboard]'`."
                ) from None

            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One line. A value that is no number (a sample text) is kept as it is."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | values, ensure_ascii=False) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._writer.add_scalar(name, value, step)

    def keep_until(self, step: int) -> None:
        """Drops what was written after `step`: those steps are done again."""
        write_json_lines(self.path, (line for line in read_metrics(self.path) if line["step"] <= step))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):  # JSON lines may hold U+2028
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
