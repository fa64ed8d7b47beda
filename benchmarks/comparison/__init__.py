"""Experiments of docs/accuracy.md and docs/comparison-tables.md: what is compared on, the cells of each table, and how
they are reported."""
