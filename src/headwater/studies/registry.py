"""The studies there are. Adding one is a file `studies/NAME.py` with `Settings` and `run`, and a line here."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, Protocol

from headwater.errors import UserError

if TYPE_CHECKING:
    from headwater.studies.findings import Findings
    from headwater.studies.study import Study, StudySettings

STUDIES = {
    "averaging": "What averaged weights and ensembles buy.",
    "start": "Bad starts, and what cures them: initialisation, warm-up, the place of the norm.",
    "translation": "Encoder-decoders, of 2017, modern and recurrent: copying, reversing, translating.",
    "rivals": "Recurrent and convolutional models beside the Transformer: memory, gradients, text, speed.",
    "methods": "PPO beside RLOO, GRPO, DPO, rejection sampling and best-of-n; and a reward that is followed too far.",
    "long": "Long sequences: a model extended from 512 to 8,192 tokens, passkeys, and memory against length.",
}
"""Name → what the study asks; `studies/NAME.py` answers."""


class Definition(Protocol):
    """What the file of a study holds."""

    Settings: type[StudySettings]

    def run(self, study: Study[Any]) -> Findings:
        """Trains, measures, and says what was found."""


def definition(name: Any, place: str) -> Definition:
    """The study of this name; only now is its file imported, and torch with it.

    `place` (the recipe's path) stands in the UserError that names the nearest study.
    """
    if name not in STUDIES:
        near = difflib.get_close_matches(str(name), STUDIES, n=1, cutoff=0.0)[0]
        raise UserError(f"{place}: `study` is {name!r}, which is no study; did you mean `{near}`?")
    module: Any = importlib.import_module(f"headwater.studies.{name}")
    return module  # type: ignore[no-any-return]
