"""This module makes ``python -m coordinator`` the same as ``fedlp-coordinator``."""

from coordinator.main import run

if __name__ == "__main__":
    run()
