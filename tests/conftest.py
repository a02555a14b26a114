"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# Whether a test passes never depends on how busy the machine is.
settings.register_profile("headwater", deadline=None)
settings.load_profile("headwater")
