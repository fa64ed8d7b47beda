"""The rounds of a run as the coordinator carries them out: tasks, updates, averages, checkpoints."""
