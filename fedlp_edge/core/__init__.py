"""The pure part: what a fleet decides, without torch, MQTT, files, clocks or hidden randomness."""
