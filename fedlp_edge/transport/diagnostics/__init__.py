"""This package measures what a broker really does, for ``fedlp doctor broker``."""
