"""Defines the function that a device minimises in a round: its interface, and one module per term.

An *objective* maps (model, x, y) to a scalar loss with a gradient. Its terms depend on the logits of the exits (cross
entropy, distillation) or on the weights (the proximal term); `make_objective` combines the terms that the settings
name.
"""

from fedlp_edge.learning.training.objectives.compose import LocalObjective, Objective, make_objective

__all__ = ["LocalObjective", "Objective", "make_objective"]
