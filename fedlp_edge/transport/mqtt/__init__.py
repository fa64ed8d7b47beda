"""The transport over a real broker."""
