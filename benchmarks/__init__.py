"""Programs that measure; each is run from the repository root as ``python -m benchmarks.NAME``."""
