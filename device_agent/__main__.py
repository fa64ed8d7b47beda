"""``python -m device_agent``, for machines where console scripts are not on the path."""

from device_agent.main import run

if __name__ == "__main__":
    run()
