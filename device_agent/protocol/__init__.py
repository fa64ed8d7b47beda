"""The device's side of the protocol: events and the time go in, effects for the service come out; no I/O."""
