"""Statistics by which a fleet agrees on the scale of its features and targets."""
