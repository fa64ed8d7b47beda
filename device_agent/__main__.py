"""Makes ``python -m device_agent`` the same as ``fedlp-agent``, for machines without console scripts on the path."""

from device_agent.main import run

if __name__ == "__main__":
    run()
