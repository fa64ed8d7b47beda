"""The course of a run: round machines, who is ready, who is chosen, and what an update weighs."""
