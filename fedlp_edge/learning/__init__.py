"""This package holds everything that needs PyTorch: data, model splitting, costs, training, evaluation, export."""
