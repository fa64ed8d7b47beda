"""The ``fedlp`` command."""
