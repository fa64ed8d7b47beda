"""This package runs PyTorch in a separate worker process, which takes typed jobs over a pipe."""
