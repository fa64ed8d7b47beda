"""How much memory and time training takes on this machine: traced, measured and calibrated."""
