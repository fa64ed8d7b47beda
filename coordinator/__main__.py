"""``python -m coordinator`` is ``fedlp-coordinator``."""

from coordinator.main import run

if __name__ == "__main__":
    run()
