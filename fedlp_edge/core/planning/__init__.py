"""Which submodel a device gets: predictions of memory and time, and the rule that chooses."""
