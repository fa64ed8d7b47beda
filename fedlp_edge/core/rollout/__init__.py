"""The course of a roll-out: which devices get a new model, in which order, and when it goes no further."""
