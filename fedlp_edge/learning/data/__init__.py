"""This package reads samples from all kinds of sources and partitions them among devices."""
