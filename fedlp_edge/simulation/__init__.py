"""Virtual fleets of hundreds or thousands of devices, on the core, the planner and the learning code of real ones."""

from fedlp_edge.simulation.engines.local import LocalEngine, local_engine
from fedlp_edge.simulation.experiment import Experiment, load_experiment
from fedlp_edge.simulation.run import simulate

__all__ = ["Experiment", "LocalEngine", "load_experiment", "local_engine", "simulate"]
