"""This package answers requests with an exported model, over HTTP and over MQTT, without PyTorch."""
