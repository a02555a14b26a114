"""headwater: from raw text to a language model that people's judgements improved."""

__version__ = "0.1.0"
