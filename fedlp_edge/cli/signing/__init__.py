"""The commands that make keys and sign releases."""
