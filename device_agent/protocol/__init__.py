"""The device's side of the protocol, pure: events and the time go in, effects for the service come out."""
