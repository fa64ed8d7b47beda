"""The link of a device: its rate, and whether something is still in transit on it."""
