"""What a model, a run's verdicts, or this machine is like: the commands that look and change nothing."""
