"""What a device minimises in a round: one interface, and one file per idea.

An *objective* maps (model, x, y) to a scalar loss that gradients flow from. Parts of one work on what the exits of
the model say (cross entropy, distillation) or on its weights (the proximal term); `make_objective` is where the
parts that the settings ask for are put together.
"""

from fedlp_edge.learning.training.objectives.compose import LocalObjective, Objective, make_objective

__all__ = ["LocalObjective", "Objective", "make_objective"]
