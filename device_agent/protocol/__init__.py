"""The device's side of the protocol, pure: events and the time go in, events for the service come out."""
