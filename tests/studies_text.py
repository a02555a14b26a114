"""A little text that can be learnt, in place of the fetched one."""

from headwater.studies.text import byte_text

WORDS = ("water", "river", "stone", "bank", "rain", "field")


def little_text():
    sentences = [f"The {a} by the {b} is under the {c}.\n" * 3 for a in WORDS for b in WORDS for c in WORDS]
    return byte_text(sentences)
