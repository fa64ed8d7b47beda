"""This package does what Linux, macOS and Windows do differently, behind one interface for all three."""
