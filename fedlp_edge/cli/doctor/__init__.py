"""This package implements ``fedlp doctor``, which checks whether a broker can carry a fleet, and what to set."""
