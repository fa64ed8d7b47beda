"""This package makes all files of one model: every depth and precision, and one with early exits."""
