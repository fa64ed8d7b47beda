"""This module reads the URL of a broker, refuses what is none, and shows it to people without its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from fedlp_edge.errors import ConfigError

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
DEFAULT_PATH = "/mqtt"
"""Default path of WebSocket URLs; most brokers and hosted services use it."""

_OTHER_SCHEMES = {
    **dict.fromkeys(("tcp", "mqtt+tcp", "http"), "mqtt"),
    **dict.fromkeys(("ssl", "tls", "mqtt+ssl", "mqtt+tls", "https"), "mqtts"),
}
"""Schemes that other MQTT programs and people write, with the one that is meant."""


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """What the URL of a broker says.

    Attributes:
        scheme: Scheme: ``mqtt``, ``mqtts``, ``ws`` or ``wss``.
        host: Host name or IP address.
        port: TCP port, that of the scheme by default.
        username: User name; None if there is none.
        password: Password; None if there is none.
        path: Path of the WebSocket with the query; None for MQTT without a WebSocket.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = field(default=None, repr=False)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in {"mqtts", "wss"}


def parse_broker_url(url: str) -> BrokerUrl:
    """Reads the URL of a broker.

    Raises:
        ConfigError: It is malformed; the message says what to write, and shows no password.
    """
    url = url.strip()  # a line of a file may end in a blank
    shown = masked(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # the text of this error may quote a password
        raise ConfigError(f"broker URL {shown!r} is malformed; write {_form_for(shown)}") from None
    if parts.scheme not in DEFAULT_PORTS or "://" not in url:
        raise ConfigError(
            f"broker URL {shown!r} must begin with mqtt:// or mqtts:// (TLS), for WebSockets with ws:// or wss:// (TLS)"
            f"{_likely_url(shown)}"
        )
    if not parts.hostname:
        raise ConfigError(f"broker URL {shown!r} names no host; write mqtt://HOST or mqtt://HOST:PORT")
    if port == 0:
        raise ConfigError(f"broker URL {shown!r} names port 0; brokers usually listen on 1883 (8883 for TLS)")
    _check_behind_port(parts, shown)
    return BrokerUrl(
        scheme=parts.scheme,
        host=_host(parts.hostname),
        port=port or DEFAULT_PORTS[parts.scheme],
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        path=_path(parts),
    )


def _host(written: str) -> str:
    """Returns the host of a URL, as it is called.

    The zone of an IPv6 address stands behind ``%25``, or as people copy it from ``ip address`` behind ``%``: then
    ``%bat0`` is no number in hexadecimal digits.
    """
    address, percent, zone = written.partition("%")
    return f"{address}%{zone.removeprefix('25') or zone}" if percent and ":" in address else unquote(written)


def _form_for(shown: str) -> str:
    """Returns the form that a malformed URL should have."""
    host = shown.partition("://")[2].rpartition("@")[2]
    if "[" not in host and ("::" in host or host.count(":") > 2):
        return "IPv6 addresses in brackets, mqtt://[HOST]:PORT"
    if "," in host:
        return "one broker, mqtt://HOST:PORT"
    if "[" not in host and re.search(r":[^:/?#]+$", host):
        return "mqtt://HOST:PORT with a port from 1 to 65535, and %XX for special characters in a login"
    return "mqtt://HOST:PORT, with %XX for special characters in a login"


def _check_behind_port(parts: SplitResult, shown: str) -> None:
    """Checks that nothing but the path of a WebSocket stands behind the port."""
    if parts.scheme in {"ws", "wss"}:
        if parts.fragment or not f"{parts.path}{parts.query}".isascii() or " " in parts.path:
            raise ConfigError(f"broker URL {shown!r} has a malformed path; write {parts.scheme}://HOST:PORT/PATH")
    elif "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise ConfigError(
            f"broker URL {shown!r} has / ? or # before its @; in a login, write %2F for /, %3F for ? and %23 for #, or "
            "set FEDLP_BROKER_USERNAME and FEDLP_BROKER_PASSWORD"
        )
    elif parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigError(
            f"broker URL {shown!r} has something after the port; write mqtt://HOST:PORT (paths are for ws:// and wss://)"
        )


def _path(parts: SplitResult) -> str | None:
    if parts.scheme in {"mqtt", "mqtts"}:
        return None
    path = parts.path if parts.path not in {"", "/"} or parts.query else DEFAULT_PATH
    return f"{path or '/'}{'?' if parts.query else ''}{parts.query}"


def _likely_url(shown: str) -> str:
    """Returns what to write in place of a URL without a scheme, or with another program's; empty if nobody knows."""
    scheme, mark, rest = shown.rpartition("://")
    rest = rest.rstrip("/") if mark else rest.removeprefix("mqtt:")
    meant = _OTHER_SCHEMES.get(scheme.lower(), "") if mark else "mqtt"
    if not meant or re.fullmatch(r"[A-Za-z0-9._-]+(:[0-9]+)?", rest) is None:
        return ""
    if scheme.lower() in {"http", "https"}:  # the port is that of a web page then
        rest = rest.partition(":")[0]
    return f"; write {meant}://{rest}"


def without_password(url: str) -> str:
    """Returns the URL without its password, for a file that others may read."""
    return masked(url).replace(":***@", "@")


def masked(url: str) -> str:
    """Returns the URL with its password masked and its query (it may hold a token) cut, even if it is malformed."""
    scheme, mark, rest = url.partition("://")
    query, at = rest.find("?"), rest.rfind("@")
    if 0 <= query < at:  # the question mark may belong to a password as well as begin a query
        return f"{scheme}{mark}{re.split('[:/?#@]', rest, maxsplit=1)[0]}***"
    login, at_sign, host = rest.partition("?")[0].rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}{mark}{user}{':***' if colon else ''}{at_sign}{host}"
