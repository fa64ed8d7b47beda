"""This package keeps weights of more than 2 GiB in a file beside an ONNX file, which as a protobuf cannot hold them."""
