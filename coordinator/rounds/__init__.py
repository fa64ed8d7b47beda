"""The rounds of a run, carried out: tasks, updates, averages, checkpoints."""
