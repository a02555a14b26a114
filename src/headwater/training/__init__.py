"""The one engine: the only place with backward(), clipping, precision, schedule, parallelism and checkpoints."""
