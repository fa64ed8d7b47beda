"""This package turns what goes wrong while packages are loaded into lines that say what to do."""
