"""Ranges of activations on a device's own samples, from which files of 8-bit integers are made."""
