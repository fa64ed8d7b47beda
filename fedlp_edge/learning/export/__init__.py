"""This package writes ONNX files, checks them against PyTorch, describes them in metadata, and runs them."""
