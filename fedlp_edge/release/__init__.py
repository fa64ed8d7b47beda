"""Signed releases of models: what an operator signs, and what a device verifies before it installs anything.

The formats and the rules are those of The Update Framework (TUF), by the python-tuf library.
"""
