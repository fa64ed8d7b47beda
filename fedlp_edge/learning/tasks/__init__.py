"""This package has one module per task: what a model's outputs mean, and how they are trained, judged and exported."""
