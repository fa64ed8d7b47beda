"""Splitting a user's model into layers, from a recording of its forward pass."""
