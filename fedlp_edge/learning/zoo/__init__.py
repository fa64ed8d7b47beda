"""This package builds layered models by name: built-in models, those of torchvision, and the user's own."""
