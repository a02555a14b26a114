"""Documents in, token shards out: sources, cleaning, quality, deduplication, privacy, tokenizer, shards.

`build` tells the order of the steps; every step is a file of its own.
"""
