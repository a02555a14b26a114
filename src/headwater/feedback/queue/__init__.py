"""Who judges what next: tasks, assignments, gold questions, contradictions, and how far the judging is."""
