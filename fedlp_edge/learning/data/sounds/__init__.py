"""Sounds in files, as pictures of their frequencies over time."""
