"""The fleet as the coordinator knows it: members, plans, links, classes."""
