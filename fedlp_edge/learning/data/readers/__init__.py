"""Readers of samples that do not have to fit into memory, without PyTorch."""
