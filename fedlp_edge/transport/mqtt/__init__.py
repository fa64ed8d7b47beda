"""This package implements the transport over a real MQTT broker."""
