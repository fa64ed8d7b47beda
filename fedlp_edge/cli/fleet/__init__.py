"""This package implements ``fedlp fleet``, which lists the coordinators and devices that a broker knows of."""
