"""Studies: several small models trained and measured side by side, to answer one question with figures.

One file per study, and one line in `registry.py`.
"""
