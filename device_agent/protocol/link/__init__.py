"""What a device knows of its link: how fast it is, and whether something is still under way on it."""
