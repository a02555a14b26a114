"""A model on the network: batching engine, OpenAI-style API."""
