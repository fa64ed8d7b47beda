"""This package carries bytes by topic: one interface, implemented over MQTT and in memory."""
