"""Reads the agent's configuration: a TOML file, overridden by the command line, completed from environment and host.

Secrets (the broker's password, keys) come from the file or the environment, never from the command line, which every
user of the machine can read.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import msgspec.inspect

from device_agent.limits import LIMITS
from fedlp_edge.config.durations import TIME_FORMS, seconds_of
from fedlp_edge.config.toml import Document, describe, load_toml
from fedlp_edge.core.settings import Processor
from fedlp_edge.errors import ConfigError
from fedlp_edge.serving.serving_options import ServingOptions
from fedlp_edge.system.directories import expand_user, home_directory, xdg_directory
from fedlp_edge.system.portable.edited_text import environment_variable
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.wire.messages import Name

STATE_DIR = "FEDLP_STATE_DIR"
"""Environment variable; the directory below which every agent's state stands."""

_NAME_WORDS = "1 to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit"

_UNNAMED = "device"
_OF_ANY_DEVICE = ("localhost", _UNNAMED)
"""Ids made of names of hosts that are none."""

_MAX_PORT = 65535


class ServeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[serve]`` table of ``agent.toml``: where the installed model answers requests; nowhere by default.

    Attributes:
        listen: Address and port for HTTP, such as ``127.0.0.1:8080``; empty for no HTTP.
        mqtt: Topic on the fleet's broker below which requests are answered; empty for none.
        threads: Number of onnxruntime's threads; 0 for one per core.
    """

    listen: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(|.+:[0-9]{1,5})\Z", description='an address and a port in quotes, such as "127.0.0.1:8080"'
        ),
    ] = ""
    mqtt: Annotated[
        str, msgspec.Meta(pattern=r"^[^+#]*\Z", description="the beginning of topics, without + and #, in quotes")
    ] = ""
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 1

    def options(self, model: Path, broker: BrokerSettings) -> ServingOptions | None:
        """Returns what a serving process needs to know; None if nothing is to be served.

        Args:
            model: Path of the link to the installed model.
            broker: Broker of the fleet.

        Raises:
            ConfigError: There is no such port.
        """
        if not self.listen and not self.mqtt:
            return None
        host, _, port = self.listen.rpartition(":")
        if port and int(port) > _MAX_PORT:
            raise ConfigError(f"listen = {self.listen!r} in [serve]: ports end at {_MAX_PORT}")
        return ServingOptions(
            model=str(model),
            listen=(host.strip("[]"), int(port)) if self.listen else None,
            broker=broker if self.mqtt else None,
            topic=self.mqtt,
            threads=self.threads,
            report_seconds=LIMITS.serving.report_seconds,
            port_name="listen in [serve] of the agent's file",
        )


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The configuration of an agent: the keys of ``agent.toml``, each with a flag of its name but for ``[broker]``.

    Attributes:
        broker: Broker of the fleet, see `fedlp_edge.transport.address.BrokerSettings`.
        fleet: Name of the fleet.
        data: Specification of the training data.
        id: Id of this device within the fleet; empty for the host's name.
        profile: Name or path of a device profile; None for the machine as it is.
        device: Processor to train on.
        state: Directory of this agent's state; empty for a default below the user's home.
        threads: Number of threads for training; 0 for what profile and machine say.
        allow_models: ``module:callable`` models whose code may run here.
        root: Path of the fleet's root of trust; empty for none. With one, nothing is installed that is not signed.
        once: End when the run is over.
        wait: Time without a coordinator after which an agent with ``once`` ends, in seconds or as ``5m``; empty for
            never.
        calibrate: Whether to measure once what the machine adds to the cost of training.
        report_metrics: Tell the coordinator how well the model does on this device's held-out samples.
        keep_models: Number of versions of the model that stay on the disk, the current one included.
        verbose: Say more.
        serve: Where the installed model answers requests, see `ServeSettings`.
    """

    broker: BrokerSettings = msgspec.field(default_factory=BrokerSettings)
    fleet: Name | None = None
    data: str | None = None
    id: Name | Literal[""] = ""
    profile: str | None = None
    device: Processor = "auto"
    state: str = ""
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    allow_models: tuple[str, ...] = ()
    root: str = ""
    once: bool = False
    wait: str | int | float = ""
    calibrate: bool = True
    report_metrics: bool = True
    keep_models: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    verbose: bool = False
    serve: ServeSettings = msgspec.field(default_factory=ServeSettings)

    @property
    def device_id(self) -> str:
        """Id of the device: the configured one, or one made of the host's name."""
        return self.id or default_id(socket.gethostname())

    @property
    def name_warning(self) -> str:
        """What to say of an id that nobody chose and that will be another one; empty for any other."""
        name = self.device_id
        if self.id:
            return ""
        if re.fullmatch("[0-9a-f]{12}", name):
            return (
                f"this device is called {name} after its container, and otherwise once that is made anew: a new device "
                "for the fleet, with a new state; give it an --id"
            )
        if name in _OF_ANY_DEVICE or re.fullmatch(r"[0-9.]+\.[0-9]+", socket.gethostname()):  # before DHCP; an address
            return (
                f"this device is called {name}, since its host has no name of its own: so is any other such device, "
                "and with a name it will be a new device for the fleet, with a new state; give it an --id"
            )
        return ""

    @property
    def wait_seconds(self) -> float | None:
        """Seconds without a coordinator after which the agent ends; None for never.

        Raises:
            ConfigError: ``wait`` is no time, or stands without ``once``.
        """
        if self.wait == "":
            return None
        if not self.once:
            raise ConfigError("wait needs once: without it, an agent waits for coordinators as long as it runs")
        with contextlib.suppress(ValueError):
            if seconds := seconds_of(self.wait):
                return seconds
        raise ConfigError(f"--wait is {self.wait!r}; it must be {TIME_FORMS}")

    @property
    def state_dir(self) -> Path:
        """Directory of the agent's state: the configured one, or a default one for this fleet and id."""
        if self.state:
            return expand_user(self.state)
        return state_base() / str(self.fleet) / self.device_id


def load_config(path: Path | None, overrides: dict[str, Any]) -> AgentConfig:
    """Reads the configuration file, if there is one, and overrides it by the command line.

    Args:
        path: Path of ``agent.toml``.
        overrides: Keys of ``AgentConfig`` that were given, and ``broker`` as a URL.

    Raises:
        ConfigError: A wrong key or value, a password in the URL, or fleet or data are not given anywhere.
    """
    config = load_toml(path, AgentConfig, _of_an_agent) if path else AgentConfig()
    changes = {key: _checked(key, value) for key, value in overrides.items() if key != "broker"}
    if (url := overrides.get("broker")) is not None:
        BrokerAddress.parse(url)  # refuses a password, which in a file would be fine
        changes["broker"] = msgspec.structs.replace(config.broker, url=url)
    config = msgspec.structs.replace(config, **changes)
    for key, value in (("fleet", "NAME"), ("data", "SPEC")):
        if not getattr(config, key):
            raise ConfigError(f"give --{key} {value}, or {key} in the file named by --config")
    _ = config.wait_seconds  # refuses what is no time
    return config


def _of_an_agent(document: Document) -> Document:
    if "model" in document or "rounds" in document:
        raise ConfigError("this is a coordinator's file; an agent's has fleet, data and [broker] (docs/devices.md)")
    return document


def default_id(hostname: str) -> str:
    """Returns a device id made of a host's name, in which ``-`` replaces what topics and file names cannot have."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", hostname.partition(".")[0]).lstrip("._-")[:64]
    return cleaned or _UNNAMED


def state_base() -> Path:
    """Returns the directory below which agents keep their state.

    Raises:
        StorageError: The environment names none, and this user has no home directory.
    """
    if directory := environment_variable(STATE_DIR):
        return expand_user(directory)
    if (home := xdg_directory("XDG_STATE_HOME")) is not None:
        return home / "fedlp-edge"
    return home_directory(f"name a directory with --state or {STATE_DIR}") / ".local" / "state" / "fedlp-edge"


def new_session() -> str:
    """Returns a session id for this life of the agent that sorts after those of earlier lives."""
    return f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(4)}"


def _checked(key: str, value: Any) -> Any:
    kind = {field.name: field.type for field in msgspec.structs.fields(AgentConfig)}[key]
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        allowed = _NAME_WORDS if key in ("fleet", "id") else describe(msgspec.inspect.type_info(kind))
        # Elsewhere, a device is named by an option of this name.
        named = "; it is --id that names the device" if key == "device" else ""
        raise ConfigError(f"--{key} is {value!r}; it must be {allowed}{named}") from None
