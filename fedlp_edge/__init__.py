"""Federated learning by layers for unequal devices, over MQTT."""

__version__ = "0.1.0"
