"""This module reads where the broker is from a fleet's file, an agent's file or a URL, for commands that look at it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fedlp_edge.config.toml import load_toml
from fedlp_edge.errors import ConfigError
from fedlp_edge.system.portable.edited_text import environment_variable
from fedlp_edge.transport.address import URL_VARIABLE, BrokerAddress, BrokerSettings
from fedlp_edge.wire.messages import Name


class BrokerFile(msgspec.Struct, frozen=True):
    """The keys that such a command reads in a fleet's or an agent's file; the services check the others.

    Attributes:
        fleet: Name of the fleet; None if the file names none.
        id: Id of the device; empty if the file names none.
        broker: The ``[broker]`` table.
    """

    fleet: Name | None = None
    id: str = ""
    broker: BrokerSettings = msgspec.field(default_factory=BrokerSettings)

    def address(self, url: str | None) -> BrokerAddress:
        """Returns the address of the broker, with the login of the file or of the environment.

        Args:
            url: URL in place of the file's; None for that.

        Raises:
            ConfigError: A wrong URL, or a login whose files cannot be read.
        """
        return (self.broker if url is None else msgspec.structs.replace(self.broker, url=url)).address()


def read_broker_file(path: Path | None, url: str | None, command: str) -> BrokerFile:
    """Reads the file of ``--config``; without one, nothing but defaults.

    Args:
        path: File; None for none.
        url: URL of the command line; None if it names none.
        command: Command, for the message of an error.

    Raises:
        ConfigError: No file, URL or variable names a broker, the URL has a password, or the file cannot be read.
    """
    if url is None and path is None and not environment_variable(URL_VARIABLE):
        raise ConfigError(f"name a broker: {command} mqtt://HOST[:PORT], or the fleet's file with --config")
    if url is not None:
        BrokerAddress.parse(url, {})  # refuses a password, which in a file would be fine
    return load_toml(path, BrokerFile) if path else BrokerFile()


def checked_name(what: str, text: str) -> str:
    """Returns the name of a fleet or a device.

    Args:
        what: Option that it was given by, without dashes.
        text: Name.

    Raises:
        ConfigError: It is none.
    """
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        raise ConfigError(f"--{what} {text}: use letters, digits, dots, dashes and underscores") from None
