"""What other programs at the broker are told of a run: Home Assistant, Node-RED, a dashboard."""
