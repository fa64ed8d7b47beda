"""This package implements ``fedlp demo``, which runs a whole fleet on this machine."""
