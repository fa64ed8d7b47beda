"""This package has the engines that compute for a simulation: processes on this machine, or a Ray cluster."""
