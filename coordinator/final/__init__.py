"""The end of a run: ONNX files are made, and every device gets the one of its depth."""
