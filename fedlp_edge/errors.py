"""Every error that FedLP Edge raises on purpose, grouped by who can act on it.

One base class lets a command catch everything it knows how to explain with a single ``except``;
the families tell the reader of a log whose turn it is: the operator who wrote a configuration, the
owner of a device, the peer that sent a bad message, or whoever runs the broker.
"""

from __future__ import annotations


class FedLPError(Exception):
    """Base of all deliberate errors. ``str(error)`` is one line: what is wrong and what to do."""


class OperatorError(FedLPError):
    """The person who started the command can mend it: a flag, a file, a configuration."""


class ConfigError(OperatorError):
    """A configuration file has a wrong key or value."""


class SettingError(OperatorError):
    """A value of a configuration file proved wrong when it was used; who has the file says in which line it stands.

    Attributes:
        key: Key of the value, table by table.
    """

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.key = key


class DataError(OperatorError):
    """A data specification names data that is missing or unusable."""


class DataAwayError(DataError):
    """Data that were there cannot be opened any more, and may come back: a network share, a stick."""


class ModelError(OperatorError):
    """A model specification is unknown, or a model cannot be built from it."""


class PartitionError(ModelError):
    """A model cannot be split into layers."""


class FreezeError(ModelError):
    """A pattern of what to freeze matches nothing of a model, or leaves nothing to train."""


class StartWeightsError(ModelError):
    """A model's start weights are missing, are no weights, or belong to another model."""


class ExportError(OperatorError):
    """An ONNX file cannot be written, or does not compute what PyTorch computes."""


class ReleaseError(OperatorError):
    """A release cannot be signed: a key, a passphrase, a signature or a file is missing or wrong."""


class StorageError(OperatorError):
    """A run directory or a device's state directory is unusable."""


class DeviceError(FedLPError):
    """Something on the device itself failed: memory, a worker process, a disk."""


class NoCoordinatorError(DeviceError):
    """No coordinator gave the device work for as long as its owner lets it wait."""


class WorkerError(DeviceError):
    """A worker process ended or answered with an error."""


class PeerError(FedLPError):
    """Another party of the fleet sent something that is not acceptable."""


class RejectedUpdateError(PeerError):
    """An update was refused on admission; it never touches the model.

    Attributes:
        reason: A short stable code, for counting (``"digest"``, ``"shape"``, ``"not-finite"`` ...).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UntrustedReleaseError(PeerError):
    """A release is not what the keys of the fleet have signed, or is too old; nothing of it is installed."""


class BrokerError(FedLPError):
    """The MQTT broker is unreachable, refuses the login, or cannot carry what a fleet needs."""


class BrokerAwayError(BrokerError):
    """The MQTT broker cannot be reached at present, and may come: its machine or the network is only starting."""
