"""Data specifications: lines of text that name samples, short enough for a command line."""
