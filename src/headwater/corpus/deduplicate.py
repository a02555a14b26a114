"""The same text twice teaches nothing twice, and leaks from training into what is held out.

Exact duplicates are found by a hash of the comparison key, near ones by MinHash (Broder 1997) with banding (LSH; Leskovec,
Rajaraman and Ullman, ch. 3): two texts whose shingle sets have Jaccard similarity s share a band with probability
1 − (1 − s^rows)^bands, with 14 bands of 8 rows one half at s ≈ 0.7. Of a group the earliest in order survives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched if False else islice

import numpy as np
