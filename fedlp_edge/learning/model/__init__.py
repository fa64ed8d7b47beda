"""A model as layers with an exit head per depth, what it costs, and its variants in width."""
