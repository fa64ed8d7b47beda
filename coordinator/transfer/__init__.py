"""The messages and blobs between coordinator and devices: control messages, the model, and updates."""
