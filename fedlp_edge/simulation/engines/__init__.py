"""Who computes for a simulation: processes on this machine, or a Ray cluster."""
