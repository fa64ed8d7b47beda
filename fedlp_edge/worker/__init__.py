"""Torch work in a process of its own, asked for by typed jobs over a pipe."""
