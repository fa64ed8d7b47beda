"""The device agent: one process per device, which keeps the connection, and a worker process that trains.

One round, in reading order: ``fedlp_edge.probe`` says what the device can bear, ``machine`` lives the protocol,
``downloads`` collects the model into ``cache``, ``trainer`` has the worker train and writes the update
to ``outbox``, ``uploads`` brings it to the coordinator, ``deployment`` installs the finished model.
``service`` carries out what the pure modules decide.
"""
