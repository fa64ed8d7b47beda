"""This package starts brokers for demos and tests: an embedded one, and a private Mosquitto process."""
