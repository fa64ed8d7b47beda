"""Brokers that are started on the spot: an embedded one, and a private Mosquitto."""
