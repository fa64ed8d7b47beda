"""This package simulates fleets of up to thousands of devices with the core and the training code of real fleets."""

from fedlp_edge.simulation.engines.local import LocalEngine, local_engine
from fedlp_edge.simulation.experiment import Experiment, load_experiment
from fedlp_edge.simulation.run import simulate

__all__ = ["Experiment", "LocalEngine", "load_experiment", "local_engine", "simulate"]
