"""``fedlp demo``: a whole fleet on this machine."""
