"""The device agent, one process per device, keeps the connection, and a worker process trains.

One round, in reading order: ``fedlp_edge.probe`` says what the device can bear, ``protocol.machine`` routes every
event, ``protocol.downloads`` collects the model into ``blob_cache``, ``trainer`` has the worker train and writes the
update to ``outbox``, ``protocol.uploads`` brings it to the coordinator, ``deployment`` installs the final model.
``service`` carries out what the protocol decides.
"""
