"""The end of a run: the models are exported to ONNX files, and every device gets the file of its depth."""
