"""This package reads TOML configuration files, with file and line of every error, expands recipes, and reads times."""
