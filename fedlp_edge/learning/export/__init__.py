"""ONNX files: written, checked against PyTorch, described, and run."""
