"""One file per stage: each composes the rooms' parts, in the order of the algorithm, and holds no algorithm itself."""
