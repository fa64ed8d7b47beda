"""``python -m fedlp_edge`` is ``fedlp``."""

from fedlp_edge.cli.entry import run

if __name__ == "__main__":
    run()
