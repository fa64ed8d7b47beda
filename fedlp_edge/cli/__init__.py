"""This package implements the ``fedlp`` command."""
