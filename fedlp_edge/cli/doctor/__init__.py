"""``fedlp doctor``: whether a broker carries a fleet, and what to set."""
