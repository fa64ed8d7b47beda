"""This module finds the broker's address and login in a URL, a configuration file and the environment.

Secrets have two ways in, both out of sight of ``ps``: a configuration file, or the environment
(``FEDLP_BROKER_PASSWORD``, better ``FEDLP_BROKER_PASSWORD_FILE``). What is given explicitly wins over the
environment.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from fedlp_edge.errors import ConfigError
from fedlp_edge.system.directories import expand_user
from fedlp_edge.system.portable.edited_text import environment_variable, first_line
from fedlp_edge.system.printable import printable
from fedlp_edge.transport.broker_url import DEFAULT_PORTS, masked, parse_broker_url
from fedlp_edge.transport.presets import PRESETS, BrokerPreset, PresetName

DEFAULT_URL = "mqtt://127.0.0.1:1883"
KEEPALIVE_SECONDS = 30

URL_VARIABLE = "FEDLP_BROKER_URL"

CREDENTIAL = "broker-password"
"""Name of the systemd credential (``LoadCredential=``) that is the broker's password where nothing else names it."""

_MISSPELT = {
    **dict.fromkeys(("URI", "HOST", "ADDRESS"), "URL"),
    **dict.fromkeys(("USER", "USER_NAME", "LOGIN"), "USERNAME"),
    **dict.fromkeys(("PASS", "PASSWD", "PW", "PASSWORT"), "PASSWORD"),
    **dict.fromkeys(("PASSWORDFILE", "PASS_FILE", "PASSWD_FILE"), "PASSWORD_FILE"),
    **dict.fromkeys(("CAFILE", "CA_FILE", "CA_CERT", "CACERT"), "CA"),
    **dict.fromkeys(("CERTIFICATE", "CERTFILE", "CERT_FILE", "CLIENT_CERT"), "CERT"),
    **dict.fromkeys(("KEYFILE", "KEY_FILE", "CLIENT_KEY"), "KEY"),
}
"""Ends of environment variables that nothing reads, with the one that is meant."""

Protocol = Literal["auto", "5", "3.1.1"]


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings of the ``[broker]`` table of a configuration file; a missing key is taken from the environment.

    Attributes:
        url: ``mqtt://HOST[:PORT]``, ``mqtts://...`` (TLS), ``ws://HOST[:PORT][/PATH]`` or ``wss://...`` (WebSockets);
            ports default to 1883, 8883, 80 and 443, the path to ``/mqtt`` (``FEDLP_BROKER_URL``).
        username: User name of the login (``FEDLP_BROKER_USERNAME``).
        password: Password (``FEDLP_BROKER_PASSWORD``); keep the configuration file private, or use ``password_file``.
        password_file: File whose first line is the password (``FEDLP_BROKER_PASSWORD_FILE``, else the systemd
            credential ``broker-password``).
        ca: PEM file with the authority that signed the broker's certificate (``FEDLP_BROKER_CA``); the
            system's authorities by default.
        certificate: PEM file with the client's certificate (``FEDLP_BROKER_CERT``).
        key: PEM file with its private key (``FEDLP_BROKER_KEY``).
        preset: Name of the preset with the limits of this kind of broker (``FEDLP_BROKER_PRESET``).
        max_packet_bytes: Largest MQTT packet in bytes, for brokers that do not announce their limit.
        max_queued_messages: Messages that the broker holds for one subscriber before it drops more; 0 for any number.
        protocol: MQTT version; ``auto`` tries version 5 first.
        keepalive_seconds: MQTT keep-alive in seconds: without any packet for so long, the client takes the connection
            for lost (the broker after 1.5 times as long); shorter where a network closes idle connections sooner,
            longer where traffic is expensive.
    """

    url: str = DEFAULT_URL
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    preset: PresetName | None = None
    max_packet_bytes: Annotated[int, msgspec.Meta(ge=2048)] | None = None
    max_queued_messages: Annotated[int, msgspec.Meta(ge=0)] | None = None
    protocol: Protocol = "auto"
    keepalive_seconds: Annotated[int, msgspec.Meta(ge=5, le=3600)] | None = None

    def __repr__(self) -> str:
        return f"BrokerSettings(url={masked(self.url)!r})"

    def address(self, environ: Mapping[str, str] | None = None) -> BrokerAddress:
        """Returns the complete address and login, with missing settings taken from the environment.

        Args:
            environ: Environment variables; ``os.environ`` by default.

        Raises:
            ConfigError: The URL is malformed, a file is missing, or two settings contradict each other.
        """
        return resolve(self, os.environ if environ is None else environ, allow_password=True)


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The address of a broker, the login, and the limits to assume of the broker.

    Attributes:
        host: Host name or IP address.
        port: TCP port.
        tls: Whether the connection is encrypted and the broker's certificate verified.
        username: User name of the login; None to log in anonymously.
        password: Password of the login; never shown.
        password_file: File that the password was read from; None if it stands elsewhere.
        ca: File of the certificate authority; None for the authorities of the operating system.
        certificate: File of the client's certificate.
        key: File of the client's private key.
        preset: Limits of this kind of broker.
        max_packet_bytes: Configured largest MQTT packet in bytes, which replaces the preset's and never exceeds what
            the broker announces.
        max_queued_messages: Configured queue length in messages, which replaces the preset's; 0 for any number.
        protocol: MQTT version to use.
        path: Path of the WebSocket with the query; None for MQTT without a WebSocket.
        keepalive_seconds: MQTT keep-alive in seconds.
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    preset: BrokerPreset = PRESETS["generic"]
    max_packet_bytes: int | None = None
    max_queued_messages: int | None = None
    protocol: Protocol = "auto"
    path: str | None = field(default=None, repr=False)
    keepalive_seconds: int = KEEPALIVE_SECONDS
    password_file: Path | None = None

    @classmethod
    def parse(
        cls, url: str, environ: Mapping[str, str] | None = None, *, allow_password: bool = False
    ) -> BrokerAddress:
        """Makes an address from a URL, with everything else taken from the environment.

        Args:
            url: ``mqtt://[USER@]HOST[:PORT]``, ``mqtts://...``, ``ws://...`` or ``wss://...``.
            environ: Environment variables; ``os.environ`` by default.
            allow_password: Whether the URL may hold a password; False for a URL from a command line.

        Raises:
            ConfigError: The URL is malformed, a file is missing, or two settings contradict each other.
        """
        settings = BrokerSettings(url=url)
        return resolve(settings, os.environ if environ is None else environ, allow_password=allow_password)

    @property
    def url(self) -> str:
        """The URL without user, password and query, for messages to people."""
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        path = "" if self.path is None else self.path.partition("?")[0]
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def scheme(self) -> str:
        """The scheme of the URL: ``mqtt``, ``mqtts``, ``ws`` or ``wss``."""
        return ("mqtt" if self.path is None else "ws") + ("s" if self.tls else "")

    @property
    def certified_name(self) -> str:
        """The host name or IP address that the broker's certificate must name, without an IPv6 zone (``%eth0``)."""
        return self.host.partition("%")[0]

    @property
    def authority(self) -> str:
        """The HTTP authority: the host, and the port if it is not the default of the scheme."""
        host = f"[{self.certified_name}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def renewed(self) -> BrokerAddress:
        """Returns the address with the password that its file holds now; this one if the file cannot be used."""
        if self.password_file is None:
            return self
        try:
            return replace(self, password=_first_line(str(self.password_file)))
        except ConfigError:
            return self

    def ssl_context(self) -> ssl.SSLContext | None:
        """Returns the TLS context that verifies the broker's certificate and shows the client's; None without TLS.

        Raises:
            ConfigError: A certificate file is unusable.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"broker CA file {self.ca} is unusable: {error}; it must be PEM") from None
        # As Python does from 3.13 on: the file may hold the authority between, or the broker's own certificate.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.certificate is not None:
            try:
                # Without a password, OpenSSL would prompt for one, and nobody answers a prompt of a service.
                context.load_cert_chain(self.certificate, self.key, password="")
            except OSError as error:
                if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
                    why = f"the key in {self.key} is another one's"
                else:
                    why = f"{error}; both must be PEM, and the key not encrypted"
                raise ConfigError(
                    f"broker client certificate {self.certificate} or its key is unusable: {why}"
                ) from None
        return context


def resolve(settings: BrokerSettings, environ: Mapping[str, str], *, allow_password: bool) -> BrokerAddress:
    """Merges the URL, explicit settings and the environment into one address.

    Raises:
        ConfigError: The URL is malformed, a file is missing, or two settings contradict each other.
    """
    _check_names(environ)
    named = environment_variable(URL_VARIABLE, environ)
    if settings.url == DEFAULT_URL and named:
        settings, allow_password = msgspec.structs.replace(settings, url=named), True
    url = parse_broker_url(settings.url)
    if url.password is not None and not allow_password:
        raise ConfigError(
            "a password in a broker URL on a command line is visible to everyone on this machine; set "
            "FEDLP_BROKER_PASSWORD or FEDLP_BROKER_PASSWORD_FILE, or write it into the configuration file"
        )
    username = settings.username or url.username or environment_variable("FEDLP_BROKER_USERNAME", environ) or None
    password, password_file = _password(settings, url.password, environ)
    if password is not None and username is None:
        raise ConfigError("there is a broker password but no user name; set FEDLP_BROKER_USERNAME or username")
    ca, certificate, key = (
        _file(what, stated or environment_variable(name, environ))
        for what, stated, name in (
            ("CA", settings.ca, "FEDLP_BROKER_CA"),
            ("client certificate", settings.certificate, "FEDLP_BROKER_CERT"),
            ("client key", settings.key, "FEDLP_BROKER_KEY"),
        )
    )
    if (certificate is None) != (key is None):
        raise ConfigError("a broker client certificate and its key go together; one of them is not given")
    if not url.tls and (ca or certificate):
        raise ConfigError(f"certificates are given, but {masked(settings.url)} is not encrypted; use {url.scheme}s://")
    return BrokerAddress(
        host=url.host,
        port=url.port,
        tls=url.tls,
        username=username,
        password=password,
        ca=ca,
        certificate=certificate,
        key=key,
        preset=_preset(settings.preset or environment_variable("FEDLP_BROKER_PRESET", environ)),
        max_packet_bytes=settings.max_packet_bytes,
        max_queued_messages=settings.max_queued_messages,
        protocol=settings.protocol,
        path=url.path,
        keepalive_seconds=settings.keepalive_seconds or KEEPALIVE_SECONDS,
        password_file=password_file,
    )


def _check_names(environ: Mapping[str, str]) -> None:
    """Checks that no login or certificate stands in a variable that nothing reads.

    Raises:
        ConfigError: There is such a variable, and the one that is meant is not set.
    """
    for wrong, right in _MISSPELT.items():
        name, meant = f"FEDLP_BROKER_{wrong}", f"FEDLP_BROKER_{right}"
        if environ.get(name) and not environ.get(meant):
            raise ConfigError(f"the environment variable {name} is not read; its name is {meant}")


def _preset(name: str | None) -> BrokerPreset:
    if not name:
        return PRESETS["generic"]
    for preset in PRESETS.values():
        if preset.name == name:
            return preset
    raise ConfigError(f"broker preset {name!r} is unknown; use one of {', '.join(PRESETS)}")


def _password(
    settings: BrokerSettings, from_url: str | None, environ: Mapping[str, str]
) -> tuple[str | None, Path | None]:
    """Returns the password, and the file that it stands in; None for what there is not."""
    if explicit := settings.password or from_url:
        return explicit, None
    if settings.password_file:
        if _credential(environ) and not os.access(expand_user(settings.password_file), os.R_OK):
            raise ConfigError(
                f"broker password file {settings.password_file} cannot be read, and the service hands the password "
                f"over itself, as the credential {CREDENTIAL}: leave password_file out"
            )
        return _first_line(settings.password_file), expand_user(settings.password_file)
    if named := environ.get("FEDLP_BROKER_PASSWORD", "").rstrip("\r\n"):
        return named, None
    if file := environment_variable("FEDLP_BROKER_PASSWORD_FILE", environ) or _credential(environ):
        return _first_line(file), expand_user(file)
    return None, None


def _credential(environ: Mapping[str, str]) -> str:
    """Returns the file of the password that a service manager hands over; empty without one.

    systemd names the directory by this variable from version 247 on. Its ``%d`` in unit files is known from 251 on
    alone, which Debian 11 and Ubuntu 22.04 do not have.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    return str(Path(directory, CREDENTIAL)) if directory and os.access(Path(directory, CREDENTIAL), os.F_OK) else ""


def _first_line(path: str) -> str:
    try:
        content = expand_user(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"broker password file {printable(path)} cannot be read: {error.strerror}") from None
    try:
        line = first_line(content)
    except ValueError as error:
        raise ConfigError(f"broker password file {path} {error}") from None
    if not line:
        raise ConfigError(f"broker password file {path} has an empty first line; it must be the password")
    return line


def _file(what: str, path: str | None) -> Path | None:
    if not path:
        return None
    found = expand_user(path)
    if found.is_dir():
        raise ConfigError(f"broker {what} file {path} is a folder; name the PEM file in it")
    if not found.is_file():
        raise ConfigError(f"broker {what} file {path} does not exist")
    return found
