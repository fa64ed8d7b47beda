"""TOML files of people, read with the file and line of whatever is wrong, and named schemes."""
