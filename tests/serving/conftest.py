"""The servers that all tests here share."""

from __future__ import annotations

from served import folders, here

__all__ = ["folders", "here"]
