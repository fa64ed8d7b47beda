"""This package has one module per task: what the model's outputs mean, and how they are trained, judged and exported."""
