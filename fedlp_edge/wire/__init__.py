"""This package turns messages and tensors into bytes and back, and checks all bytes that come from the network."""
