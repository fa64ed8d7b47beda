"""What crosses the wire: control messages, the model on its way out, updates on their way in."""
