"""The browser and the pages that all tests here share."""

from __future__ import annotations

from browsing import chromium, pages, runs, visit, writers

__all__ = ["chromium", "pages", "runs", "visit", "writers"]
