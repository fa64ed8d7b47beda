"""This package adds up what models answered, on any number of devices, and computes metrics from the sums."""
