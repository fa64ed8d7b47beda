"""Models by name: built-in ones, those of torchvision, and the user's own."""
