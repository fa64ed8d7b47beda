"""Who is in the fleet: membership, plans, links, classes."""
