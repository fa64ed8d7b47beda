"""This package wraps the operating system: files that survive a crash, locks, control groups, signals, a cache."""
