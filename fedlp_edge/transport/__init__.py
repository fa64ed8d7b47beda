"""Topics and bytes, and nothing else: one interface, over MQTT or in memory."""
