"""Roll-outs: a model that is exported goes to the devices of a fleet, group by group."""
