"""Experiments that docs/accuracy.md shows: what is compared on, the cells of each table, and how they are reported."""
